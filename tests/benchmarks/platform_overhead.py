"""What the platform adds to a training step: a run under Ray Train against the same loop bare, in turns.

    python tests/benchmarks/platform_overhead.py --steps 40 --rounds 3

Both train the shipped tiny base on the demo set with the same batches and threads. The run streams its data and writes
metric lines; the bare loop has its batches in memory and no other callback. Steps are timed alike, from the end of one
to the end of the next; the first ten, start-up, and the last, which takes the checkpoint, are left out. Beside the wall
clock stands the CPU time of the training thread, which other work on the machine disturbs less; reading and decoding
run elsewhere and show on the wall clock, and in `train/data_wait_fraction`. The embedded services are started where
none are configured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

TARGET = 1.05
WARM_UP = 10
DATA, RUNS = "s3://dpn/benchmarks/overhead-data", "s3://dpn/benchmarks/overhead-runs"


def main() -> None:
    """Measure and print."""
    options = parse_options()
    from dpn_platform.services import connect

    connect(start=True)
    from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
    from dpn_platform.services.ray_client import init_ray

    init_ray()
    ensure_demo(DemoRecipe(options.steps * options.batch, 20), uri=DATA, raw_uri=f"{DATA}-raw")
    config = build_config(options)
    rounds: dict[str, list[Spent]] = {"bare loop": [], "run under Ray Train": []}
    for number in range(options.rounds):
        # A process of its own, as the run's worker has: DeepSpeed keeps what it was first initialised with.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rounds["bare loop"].append(pool.submit(bare_step, config).result())
        rounds["run under Ray Train"].append(run_step(config, f"{uuid.uuid4().hex[:6]}-{number}"))
        print(*(f"{name}: {spent[-1]}" for name, spent in rounds.items()), sep="; ", flush=True)
    print_overhead(options, *rounds.values())


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
        "checkpoint_every_steps": options.steps,
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


class Spent(NamedTuple):
    """Means over the steps of a round, in milliseconds; share of the time spent waiting for data."""

    wall_ms: float
    cpu_ms: float
    data_wait: float = 0.0

    def __str__(self) -> str:
        return f"{self.wall_ms:.0f} ms a step, {self.cpu_ms:.0f} ms CPU"


class StepTimes:
    """Callback that notes both clocks after every step, in a file: a run's worker is another process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_step(self, engine: Any, result: Any) -> None:
        """Called after every step, in the training thread."""
        with self.path.open("a") as file:
            file.write(f"{time.perf_counter()} {time.thread_time()}\n")

    def spent(self, data_wait: float = 0.0) -> Spent:
        """Between the ends of steps, start-up and the checkpoint left out."""
        ends = [[float(word) for word in line.split()] for line in self.path.read_text().splitlines()][WARM_UP:-1]
        wall, cpu = ([1e3 * (b[n] - a[n]) for a, b in pairwise(ends)] for n in (0, 1))
        return Spent(mean(wall), mean(cpu), data_wait)


def run_step(config: Any, name: str) -> Spent:
    """A step of a real run."""
    from dpn_platform.training.metric_lines import read_metrics
    from dpn_platform.training.run import run_training

    with tempfile.TemporaryDirectory() as folder:
        times = StepTimes(Path(folder) / "times")
        outcome = run_training(config, run_name=name, callbacks=[times])
        waits = [line["train/data_wait_fraction"] for line in read_metrics(outcome.run_uri)[1:]]
        return times.spent(median(waits))


def bare_step(config: Any) -> Spent:
    """A step of the loop alone, its batches read and decoded before."""
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
        engine, times = build_engine(model.train(), config.train), StepTimes(Path(folder) / "times")
        run_loop(engine, iter(batches), config.train, start_step=0, callbacks=[times])
        dist.destroy_process_group()
        return times.spent()


def print_overhead(options: argparse.Namespace, bare: list[Spent], run: list[Spent]) -> None:
    """Ratios of medians over the rounds."""
    print(f"\n{options.rounds} rounds of {options.steps} steps, batch {options.batch}, {options.threads} thread(s)")
    for name in ("wall_ms", "cpu_ms"):
        before, after = (median(getattr(spent, name) for spent in rounds) for rounds in (bare, run))
        print(f"{name:<9}{after:>8.0f} / {before:.0f} = {after / before:.3f} (<= {TARGET})")
    print(f"data wait {median(spent.data_wait for spent in run):.2%} of the step")


def read_batches(config: Any, processor: Any, model: Any) -> list[Any]:
    """All batches of the run, as its worker would get them."""
    import numpy as np

    from dpn_platform.data.reading.collate import SampleCollator
    from dpn_platform.training.batches import open_batches

    reader = open_batches(config, np.empty(0, np.int64), start_step=0)
    collate = SampleCollator(processor, router=model.needs_router_token, decode=config.data.decode)
    return list(reader.collated(collate))


if __name__ == "__main__":
    main()
