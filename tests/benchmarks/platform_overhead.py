"""What the platform adds to a training step: a run under Ray Train against the same loop bare, in turns.

    python tests/benchmarks/platform_overhead.py --steps 40 --rounds 3

Both train the shipped tiny base on the demo set with the same batches and threads. The run streams its data, writes
metric lines and a checkpoint; the bare loop has its batches in memory and no callbacks. Start-up is left out: of the
run count the lines behind the first, of the loop the steps behind them. `train/step_ms` holds the wait for data; what
callbacks take is added. The embedded services are started where none are configured, and left running.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

TARGET = 1.05
DATA, RUNS = "s3://dpn/benchmarks/overhead-data", "s3://dpn/benchmarks/overhead-runs"


def main() -> None:
    """Measure and print."""
    options = parse_options()
    from dpn_platform.services import connect

    connect(start=True)
    from dpn_platform.data.prepare import DemoRecipe, ensure_demo
    from dpn_platform.services.ray_client import init_ray

    init_ray()
    ensure_demo(DemoRecipe(options.steps * options.batch, 20), uri=DATA, raw_uri=f"{DATA}-raw")
    config = build_config(options)
    times: dict[str, list[float]] = {"bare loop": [], "run under Ray Train": []}
    for number in range(options.rounds):
        # A process of its own, as the run's worker has: DeepSpeed keeps what it was first initialised with.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            times["bare loop"].append(pool.submit(bare_step_ms, config).result())
        times["run under Ray Train"].append(run_step_ms(config, f"{uuid.uuid4().hex[:6]}-{number}"))
        print(*(f"{name}: {spent[-1]:.0f} ms a step" for name, spent in times.items()), sep=", ", flush=True)
    bare, run = (median(spent) for spent in times.values())
    print(
        f"\nmedians of {options.rounds} rounds of {options.steps} steps: {run:.0f} / {bare:.0f} ms = {run / bare:.3f}"
    )
    print(f"platform overhead, target <= {TARGET}: {'met' if run / bare <= TARGET else 'missed'}")


def parse_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def build_config(options: argparse.Namespace) -> Any:
    """A dense run: routes are drawn, and would differ."""
    from dpn_platform.config.load import parse_config

    train = {
        "steps": options.steps,
        "global_batch_size": options.batch,
        "micro_batch_size": options.batch,
        "threads_per_worker": options.threads,
        "log_every_steps": 10,
        "checkpoint_every_steps": max(1, options.steps // 2),
    }
    return parse_config(
        {
            "name": "overhead",
            "data": {"uri": DATA},
            "method": {"name": "dense"},
            "storage": {"runs_uri": RUNS},
            "train": train,
        }
    )


def run_step_ms(config: Any, name: str) -> float:
    """Milliseconds of a step of a real run, callbacks included: median over its lines, the first left out."""
    from dpn_platform.training.metrics import read_metrics
    from dpn_platform.training.run import run_training

    outcome = run_training(config, run_name=name)
    lines = read_metrics(outcome.run_uri)[1:]
    return median(line["train/step_ms"] / (1 - line["train/callbacks_fraction"]) for line in lines)


def bare_step_ms(config: Any) -> float:
    """Milliseconds of a step of the loop alone, its batches read and decoded before: median over the same steps."""
    import torch
    import torch.distributed as dist

    from dpn_platform.services.ray_client import init_ray
    from dpn_platform.training.base import build_model
    from dpn_platform.training.engine import build_engine
    from dpn_platform.training.loop import run_loop

    init_ray()  # reads the batches
    os.environ.setdefault("LOCAL_RANK", "0")
    torch.set_num_threads(config.train.threads_per_worker)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        model, processor = build_model(config)
        batches = read_batches(config, processor, model)
        engine, times = build_engine(model.train(), config.train), StepTimes()
        run_loop(engine, iter(batches), config.train, start_step=0, callbacks=[times])
        dist.destroy_process_group()
    return times.median_ms(skip=config.train.log_every_steps)


class StepTimes:
    """Callback that notes when every step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_step(self, engine: Any, result: Any) -> None:
        """Called after every step."""
        self.ends.append(time.perf_counter())

    def median_ms(self, skip: int) -> float:
        """Of means over ten steps, like the lines of a run."""
        ends = self.ends[skip - 1 :: skip]
        return median((later - earlier) / skip * 1e3 for earlier, later in zip(ends, ends[1:], strict=False))


def read_batches(config: Any, processor: Any, model: Any) -> list[Any]:
    """All batches of the run, as its worker would get them."""
    import numpy as np

    from dpn_platform.data.collate import SampleCollator
    from dpn_platform.training.batches import open_batches

    reader = open_batches(config, np.empty(0, np.int64), start_step=0)
    collate = SampleCollator(processor, router=model.needs_router_token, decode=config.data.decode)
    return list(reader.collated(collate))


if __name__ == "__main__":
    main()
