"""How close our stream comes to the pure decode limit, beside other loaders, in one interleaved run.

Command: python tests/benchmarks/ingestion.py [--rows 2000] [--rounds 3] [--growth]    (PYTHONPATH=platform:.)
With --growth instead: our stream at 1,600, 4,000 and 16,000 rows of small pictures, time per row and memory.
A local Ray is started.

Every candidate gives uint8 pictures of 336 x 336 in batches of 32, decoded by LLaVA's order (PIL, pad, bicubic) in two
threads or processes; texts are not tokenised. CPU is that of the whole process tree, Ray's processes included. The
first round starts processes (Ray's live as long as a run) and is printed apart; the table is of the rounds after it,
each of which begins with another candidate. Fractions of the limit are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import ray
from ingestion_loaders import BATCH, candidates, ours
from ingestion_sets import photograph, small_picture, write_sets

STEP_S = 0.5  # of the fake step: 64 rows a second, below half of what the stream gives
LIMIT = "decode limit"


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
    else:
        compare(given.rows, given.rounds)
    ray.shutdown()


def compare(rows: int, rounds: int) -> None:
    """All candidates in turn, a cold round and `rounds` warm ones; then our stream beside a fake step."""
    with tempfile.TemporaryDirectory() as name:
        manifest = write_sets(Path(name), rows, [photograph(number) for number in range(200)])
        loaders = list(candidates(Path(name), manifest).items())
        results: dict[str, list[dict[str, float]]] = {key: [] for key, _ in loaders}
        for number in range(rounds + 1):
            for key, loader in loaders[number % len(loaders) :] + loaders[: number % len(loaders)]:
                results[key].append(run(loader()))
                print(number, key, {name: round(value, 2) for name, value in results[key][-1].items()}, flush=True)
        print_table(results)
        stepped = run(ours(manifest), STEP_S)  # the wait for the first batch is start-up and not counted
        print(f"fake step of {STEP_S} s per {BATCH} rows: data wait {stepped['wait']:.1%}")


def print_table(results: dict[str, list[dict[str, float]]]) -> None:
    """Medians of the warm rounds; the first column also with its extremes."""
    for key, (_, *warm) in results.items():
        shares = [one["rows/cpu-s"] / bound["rows/cpu-s"] for one, bound in zip(warm, results[LIMIT][1:], strict=True)]
        medians = {field: statistics.median(one[field] for one in warm) for field in warm[0] if field != "wait"}
        of_limit = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        print(f"{key:<18} of limit {of_limit}", *(f"{field} {value:.2f}" for field, value in medians.items()), sep="  ")
    cold = results["our stream"][0]
    print(f"our stream, cold: {cold['rows/cpu-s']:.2f} rows/cpu-s, first batch after {cold['first s']:.1f} s")


if __name__ == "__main__":
    main()
