"""How close our stream comes to the pure decode limit, beside other loaders, in one interleaved run.

Command: python tests/benchmarks/ingestion.py [--rows 2000] [--rounds 3] [--growth]    (PYTHONPATH=platform:.)
With --growth instead: our stream at 1,600, 4,000 and 16,000 rows of small pictures, time per row and memory.
A local Ray is started.

Every candidate gives uint8 pictures of 336 x 336 in batches of 32, decoded by LLaVA's order (PIL, pad, bicubic) in two
threads or processes; texts are not tokenised. CPU is that of the whole process tree, Ray's processes included.
"""

from __future__ import annotations

import argparse
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ingestion_sets import photograph, small_picture, write_sets

from dpn_model.processing.images import fit_square
from dpn_platform.config.schema import DataConfig
from dpn_platform.data.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.batch_settings import BatchSettings
from dpn_platform.data.collate import decode_fitting, decode_image
from dpn_platform.data.feed import local_batches
from dpn_platform.data.manifest import Manifest
from dpn_platform.training.batches import BatchReader

SIZE, BATCH, THREADS = 336, 32, 2
STEP_S = 0.5  # of the fake step: 64 rows a second, below half of what the stream gives


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(fit_square(decode_image(data), SIZE))


def decoded_fast(data: bytes) -> np.ndarray:
    return np.asarray(fit_square(decode_fitting(data, SIZE), SIZE))


def batches_of(pictures: Iterator[bytes], decode: Callable[[bytes], np.ndarray] = decoded) -> Iterator[np.ndarray]:
    """Batches decoded by threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        while chunk := [data for _, data in zip(range(BATCH), pictures, strict=False)]:
            yield np.stack(list(pool.map(decode, chunk)))


def limit(folder: Path) -> Iterator[np.ndarray]:
    """Only decoding: the bytes are in memory."""
    yield from batches_of(iter([path.read_bytes() for path in sorted((folder / "files").iterdir())]))


def plain_arrow(folder: Path) -> Iterator[np.ndarray]:
    def rows() -> Iterator[bytes]:
        for path in sorted((folder / "shards").iterdir()):
            for group in pq.ParquetFile(path).iter_batches(BATCH, columns=["image"]):
                yield from group.column("image").to_pylist()

    yield from batches_of(rows())


def tar_stream(folder: Path) -> Iterator[np.ndarray]:
    """WebDataset's way, by the standard library: one pass through the tar."""

    def rows() -> Iterator[bytes]:
        with tarfile.open(folder / "set.tar", "r|") as tar:
            for entry in tar:
                yield tar.extractfile(entry).read()  # type: ignore[union-attr]

    yield from batches_of(rows())


class Files(torch.utils.data.Dataset):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted((folder / "files").iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> np.ndarray:
        return decoded(self.paths[place].read_bytes())


def torch_loader(folder: Path) -> Iterator[np.ndarray]:
    loader = torch.utils.data.DataLoader(Files(folder), batch_size=BATCH, num_workers=THREADS, collate_fn=np.stack)
    yield from loader


def plan_for(manifest: Manifest) -> BatchPlan:
    return plan_batches(manifest.split("train"), BatchSettings(BATCH, 1), seed=0)


def ours(manifest: Manifest, decode: Callable[[bytes], np.ndarray] = decoded) -> Iterator[np.ndarray]:
    """The product's own reader, which decodes ahead of the step."""
    with ThreadPoolExecutor(THREADS) as pool:

        def collate(table: pa.Table) -> dict[str, Any]:
            return {"pixels": np.stack(list(pool.map(decode, table["image"].to_pylist())))}

        # The settings tell the shard of a damaged row only, and these have none.
        reader = BatchReader(local_batches(manifest, plan_for(manifest), num_readers=2), DataConfig())
        for batch in reader.collated(collate):
            yield batch["pixels"]


class Tree:
    """CPU and memory of this process, its children and Ray's."""

    def __init__(self) -> None:
        self.root = psutil.Process()

    def members(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def cpu_s(self) -> dict[int, float]:
        return {p.pid: sum(p.cpu_times()[:2]) for p in self.members() if p.is_running()}

    def pss_mb(self) -> float:
        total = 0.0
        for process in self.members():
            try:
                total += process.memory_full_info().pss / 1e6
            except (psutil.Error, FileNotFoundError):
                continue
        return total


def run(batches: Iterator[np.ndarray], step_s: float = 0.0) -> dict[str, float]:
    tree = Tree()
    before = tree.cpu_s()
    began = time.monotonic()
    rows, waited, first, peak, last = 0, 0.0, 0.0, 0.0, before
    asked = began
    for number, batch in enumerate(batches):
        now = time.monotonic()
        waited += now - asked if number else 0.0
        first = first or now - began
        rows += len(batch)
        if number % 4 == 2:
            last = {**last, **tree.cpu_s()}
        if number % 16 == 10:
            peak = max(peak, tree.pss_mb())
        time.sleep(step_s)
        asked = time.monotonic()
    elapsed = time.monotonic() - began
    last = {**last, **tree.cpu_s()}
    cpu = sum(value - before.get(pid, 0.0) for pid, value in last.items())
    return {"rows/cpu-s": rows / cpu, "rows/s": rows / elapsed, "first s": first, "peak MB": peak,
            "wait": waited / elapsed}  # fmt: skip


def growth(rounds: int) -> None:
    """Medians of CPU time per row and of the peak, warm."""
    with tempfile.TemporaryDirectory() as name:
        sets = {}
        for rows in (1600, 4000, 16000):
            (folder := Path(name) / str(rows)).mkdir()
            sets[rows] = write_sets(folder, rows, [small_picture()])
        runs: dict[int, list[dict[str, float]]] = {rows: [] for rows in sets}
        for number in range(rounds + 1):
            for rows, manifest in sets.items():
                result = run(ours(manifest))
                runs[rows] += [result] if number else []
        cpu_ms = {
            rows: statistics.median(1000 / one["rows/cpu-s"] for one in results) for rows, results in runs.items()
        }
        wall_ms = {rows: statistics.median(1000 / one["rows/s"] for one in results) for rows, results in runs.items()}
        peak = {rows: statistics.median(one["peak MB"] for one in results) for rows, results in runs.items()}
        print(f"CPU ms/row {cpu_ms}, 16K/4K {cpu_ms[16000] / cpu_ms[4000]:.2f}")
        print(f"wall ms/row {wall_ms}, 16K/4K {wall_ms[16000] / wall_ms[4000]:.2f}")
        print(f"peak MB {peak}, 10x rows {peak[16000] / peak[1600]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    given = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=512 * 2**20)
    if given.growth:
        growth(given.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_sets(folder, given.rows, [photograph(number) for number in range(200)])
        candidates: dict[str, Callable[[], Iterator[np.ndarray]]] = {
            "decode limit": lambda: limit(folder),
            "our stream": lambda: ours(manifest),
            "our stream, fast": lambda: ours(manifest, decoded_fast),
            "pyarrow + threads": lambda: plain_arrow(folder),
            "torch DataLoader": lambda: torch_loader(folder),
            "tar stream": lambda: tar_stream(folder),
        }
        results: dict[str, list[dict[str, float]]] = {key: [] for key in candidates}
        for _ in range(given.rounds):
            for key, candidate in candidates.items():
                results[key].append(run(candidate()))
                print(key, {name: round(value, 2) for name, value in results[key][-1].items()}, flush=True)
        bound = statistics.median(result["rows/cpu-s"] for result in results["decode limit"])
        for key, runs in results.items():
            medians = {field: statistics.median(result[field] for result in runs) for field in runs[0]}
            text = "  ".join(f"{field} {value:8.2f}" for field, value in medians.items() if field != "wait")
            print(f"{key:<20} of limit {medians['rows/cpu-s'] / bound:.2f}  {text}", flush=True)
        stepped = run(ours(manifest), STEP_S)  # the wait for the first batch is start-up and not counted
        print(f"fake step of {STEP_S} s per {BATCH} rows: data wait {stepped['wait']:.1%}")
    ray.shutdown()


if __name__ == "__main__":
    main()
