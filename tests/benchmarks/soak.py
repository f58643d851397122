"""A small real run that is disturbed at random, again and again, and compared with one that is not.

Victims: a training worker, the driver (`dpn train`), the process that feeds the workers, Ray Train's controller, all
with SIGKILL; and the S3 server, which is stopped and started again after a while. Exits with 1 when a row or a loss
differs from the undisturbed run. With --resize a driver that is started again takes another number of workers: sums
are then formed in another order, which is 1e-7 at first and grows with training (measured: 1e-6 after 60 steps, 1e-2
after 150); losses are then compared up to twenty steps after the first such change.

Run by hand, with services of its own in a scratch DPN_HOME:
    DPN_HOME=/tmp/dpn-soak PYTHONPATH=platform:. python tests/benchmarks/soak.py --kills 20
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from dpn_platform import services, storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.reading.sample_set import SampleSet
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.processes import ProcessRecord, stop
from dpn_platform.services.ray_client import init_ray
from dpn_platform.training.metric_lines import read_metrics

VICTIMS = ("worker", "driver", "feed", "store", "controller")
TITLES = {"worker": "ray::RayTrainWorker", "feed": "ray::Feed", "controller": "ray::TrainController"}
CHECKPOINT_EVERY, BATCH = 10, 8
#: Measured: 0 while the number of workers stays, 1.0e-7 between one worker and two.
TOLERANCE = 5e-6


@dataclass
class Run:
    """`dpn train` in a process of its own, started again when it ended before its run did."""

    recipe: Path
    uri: str
    name: str
    chance: random.Random
    starts: int = 0
    workers: int = 2
    may_resize: bool = False
    resized_at: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What its drivers say."""
        return self.recipe.with_name(f"{self.name}.log")

    @property
    def is_complete(self) -> bool:
        return storage.exists(f"{self.uri}/outcome.json")

    @property
    def step(self) -> int:
        """Of the last metric line in storage."""
        try:
            lines = read_metrics(self.uri)
        except DpnError:
            return 0
        return int(lines[-1]["step"]) if lines else 0

    def published(self) -> int:
        """Step of the latest checkpoint that Ray Train has published."""
        try:
            snapshot = storage.read_json(f"{self.uri}/checkpoint_manager_snapshot.json")
        except DpnError:
            return 0
        return int((snapshot.get("latest_checkpoint_result") or {"metrics": {"step": 0}})["metrics"]["step"])

    def keep_going(self) -> bool:
        """Starts the driver if it does not run; whether it did."""
        if self.process is not None and self.process.poll() is None:
            return False
        if self.starts and self.may_resize:
            self.workers = self.chance.choice((1, 2))
        if self.workers != 2 and self.resized_at is None:
            self.resized_at = self.published()
        command = [sys.executable, "-m", "dpn_platform", "train", str(self.recipe), "--name", self.name]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, f"train.num_workers={self.workers}"], stdout=subprocess.DEVNULL, stderr=log
            )
        self.starts += 1
        return True


def disturb(victim: str, run: Run, home: Home, outage_s: float) -> bool:
    """Kills the victim; False when there is none at the moment."""
    if victim == "driver":
        assert run.process is not None
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        return True
    if victim == "store":
        record = ProcessRecord.load(record_path(home, "s3"))
        assert record is not None
        stop({record: 3.0})
        time.sleep(outage_s)
        services.up(home.path)
        return True
    found = ray_processes(home, TITLES[victim])
    if not found:
        return False
    run.chance.choice(found).kill()
    return True


def ray_processes(home: Home, title: str) -> list[psutil.Process]:
    """Actors of this home's Ray and of no other."""
    record = ProcessRecord.load(record_path(home, "ray"))
    assert record is not None
    found = []
    for process in psutil.Process(record.pid).children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.Error:  # it has ended
            continue
    return found


def soak(run: Run, home: Home, kills: int, steps: int, outage_s: float) -> list[dict[str, Any]]:
    """Disturbs the run until it has been disturbed often enough, then lets it end."""
    events: list[dict[str, Any]] = []
    began, wanted, stale = time.monotonic(), run.chance.randint(1, CHECKPOINT_EVERY), 0
    while not run.is_complete:
        run.keep_going()
        step = run.step
        if step == stale:
            time.sleep(0.1)
            continue
        if events and "continued" not in events[-1]:
            events[-1] |= {"continued": "by itself" if events[-1]["starts"] == run.starts else "started again"}
            events[-1] |= {"workers": run.workers}
            print("  ".join(f"{key}: {value}" for key, value in events[-1].items()), flush=True)
        if len(events) < kills and step >= wanted:
            victim, checkpoint, starts = run.chance.choice(VICTIMS), run.published(), run.starts
            if disturb(victim, run, home, outage_s):
                time.sleep(1.0)  # until nobody writes what was computed before
                stale = step = max(step, run.step)
                facts = {"time_s": round(time.monotonic() - began), "victim": victim, "at_step": step}
                lost = {} if victim == "store" else {"steps_lost": step - checkpoint}
                events.append({**facts, "checkpoint": checkpoint, **lost, "starts": starts})
                wanted = min(steps - 1, step + run.chance.randint(1, 2 * CHECKPOINT_EVERY))
        time.sleep(0.1)
    assert run.process is not None
    run.process.wait()
    return events


def result_of(run_uri: str) -> tuple[list[float], list[int]]:
    """Losses step by step, and the sample keys consumed."""
    uri = storage.read_json(f"{run_uri}/outcome.json")["checkpoint_uri"]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name.rpartition("/")[2] for name in storage.list_files(uri) if "/consumed-" in name]
        for file in files:
            file.write_bytes(storage.read_bytes(f"{uri}/{file.name}"))
        keys = SampleSet.load(files).keys()
    return [line["train/loss"] for line in read_metrics(run_uri)], sorted(keys.tolist())


def recipe_of(base: str, data_uri: str, steps: int, zero_stage: int) -> dict[str, Any]:
    train = {
        "steps": steps, "global_batch_size": BATCH, "micro_batch_size": BATCH // 2, "num_workers": 2,
        "zero_stage": zero_stage, "checkpoint_every_steps": CHECKPOINT_EVERY, "log_every_steps": 1,
        "threads_per_worker": 1, "max_failures": 100,
    }  # fmt: skip
    return {
        "name": "soak", "data": {"uri": data_uri}, "model": {"base": "tiny"}, "method": {"name": "dense"},
        "storage": {"runs_uri": f"{base}/runs"}, "tracking": {"experiment": "soak"}, "train": train,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--outage-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resize", action="store_true")
    parser.add_argument("--zero-stage", type=int, default=2)
    arguments = parser.parse_args()
    steps = 60 + 40 * arguments.kills
    services.connect(start=True)  # before the first import of ray, which reads the environment
    init_ray()
    from dpn_platform.demo.prepare import DemoRecipe, ensure_demo

    home, base = Home.resolve(os.environ["DPN_HOME"]), f"s3://dpn/soak-{int(time.time())}"
    ensure_demo(DemoRecipe(400, 20), uri=f"{base}/data", raw_uri=f"{base}/raw")
    with tempfile.TemporaryDirectory(prefix="dpn-soak-") as folder:
        recipe = Path(folder) / "soak.yaml"
        recipe.write_text(yaml.safe_dump(recipe_of(base, f"{base}/data", steps, arguments.zero_stage)))
        runs = [
            Run(recipe, f"{base}/runs/{name}", name, random.Random(arguments.seed)) for name in ("quiet", "disturbed")
        ]
        runs[1].may_resize = arguments.resize
        soak(runs[0], home, 0, steps, 0.0)
        events = soak(runs[1], home, arguments.kills, steps, arguments.outage_s)
        print(runs[1].log.read_text())
    print(f"disturbances: {len(events)}")
    (losses, keys), (expected, expected_keys) = (result_of(run.uri) for run in reversed(runs))
    compared = steps if runs[1].resized_at is None else runs[1].resized_at + 20
    pairs = list(zip(losses, expected, strict=True))[:compared]
    worst = max(abs(one - other) / other for one, other in pairs)
    print(
        f"rows: {'the same' if keys == expected_keys else 'DIFFER'}; largest relative difference of a loss: {worst:g}"
    )
    sys.exit(0 if keys == expected_keys and worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
