"""Plan, shuffle and resume state at the size of the 665K mix and ten times it, without a picture: time and memory.

Command: python tests/benchmarks/order_scale.py [rows ...]      (PYTHONPATH=platform:.)
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dpn_platform.data.published.manifest import Shard, Split
from dpn_platform.data.published.row_index import RowIndex
from dpn_platform.data.reading.batch_plan import plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.sample_set import SampleSet

ROWS_PER_SHARD = 4096
MODES = {
    "plain": BatchSettings(16, 8),
    "balanced": BatchSettings(16, 8, balanced=True),
    "modality": BatchSettings(16, 8, by_modality=True),
    "tokens": BatchSettings(16, 8, tokens_per_batch=16384),
    "weights x2": BatchSettings(16, 8, source_weights={"a": 2.0}),
}


def mixture(num_rows: int) -> tuple[Split, RowIndex]:
    """The proportions of spec base-models B.4: 6.1% texts."""
    firsts = range(0, num_rows, ROWS_PER_SHARD)
    shards = tuple(
        Shard(
            path=f"{first}", rows=min(ROWS_PER_SHARD, num_rows - first), first_row_id=first, bytes=1,
            sha256="", content_sha256=f"{first}",
        )
        for first in firsts
    )  # fmt: skip
    draw = np.random.default_rng(0)
    has_image = draw.random(num_rows) > 0.06116
    tokens = (draw.lognormal(4.8, 0.8, num_rows).clip(10, 1400) + 576 * has_image).astype(np.int32)
    source = (draw.random(num_rows) < 0.1).astype(np.int16)
    counts = {"a": int((source == 0).sum()), "b": int((source == 1).sum())}
    images = int(has_image.sum())
    split = Split(rows=num_rows, images=images, text_only=num_rows - images, sources=counts, shards=shards)
    return split, RowIndex(has_image, tokens, source, ("a", "b"))


def measured(action: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """(result, CPU seconds, MiB at the peak, MiB kept); memory in a second, slower run."""
    began = time.process_time()
    action()
    seconds = time.process_time() - began
    tracemalloc.start()
    result = action()
    kept, peak = (value / 2**20 for value in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    return result, seconds, peak, kept


def report(num_rows: int) -> None:
    split, index = mixture(num_rows)
    for name, settings in MODES.items():
        plan, seconds, peak, kept = measured(
            lambda settings=settings: plan_batches(split, settings, seed=1, index=index)
        )
        line(num_rows, f"plan {name}", seconds, peak, kept, f"{plan.num_steps} steps, {plan.left_out} left out")
    keys = plan_batches(split, MODES["modality"], seed=1, index=index).sample_keys()
    done, seconds, peak, kept = measured(lambda: SampleSet(keys[: len(keys) * 9 // 10]))
    line(num_rows, "consumed 90%", seconds, peak, kept, f"{done.num_bytes / 2**10:.0f} KiB of bitmaps")
    with tempfile.TemporaryDirectory() as folder:
        done.save(Path(folder), "consumed")
        [file] = Path(folder).iterdir()
        size = file.stat().st_size
        consumed, seconds, peak, kept = measured(lambda: SampleSet.load([file]).keys())
    line(num_rows, "load state", seconds, peak, kept, f"{size / 2**10:.0f} KiB in the checkpoint")
    rest, seconds, peak, kept = measured(
        lambda: plan_batches(split, MODES["modality"], seed=1, index=index, consumed=consumed)
    )
    line(num_rows, "resume at 90%", seconds, peak, kept, f"{rest.num_steps} steps left")


def line(num_rows: int, name: str, seconds: float, peak: float, kept: float, note: str) -> None:
    print(f"{num_rows:>9,}  {name:<16}{seconds:>8.2f} s {peak:>8.0f} MiB peak {kept:>7.1f} MiB kept   {note}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[665_298, 6_652_980])
    for number in parser.parse_args().rows:
        report(number)
