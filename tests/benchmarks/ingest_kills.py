"""Kill a real ingest with SIGKILL at random points, again and again, and compare with an undisturbed one.

Run by hand, with services of its own in a scratch DPN_HOME:
    DPN_HOME=/tmp/dpn-kills PYTHONPATH=platform:. python tests/benchmarks/ingest_kills.py --kills 5 --rows 3000
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from typing import Any

from dpn_platform.data.ingest.finished import FINISHED_FOLDER
from dpn_platform.demo.mix.build import MixRecipe, make_mix
from dpn_platform.services import connect
from dpn_platform.storage import exists, join_uri, list_files, read_bytes

OPTIONS = ("--rows-per-shard", "50", "--max-quarantined", "0.5", "--name", "mix", "--json")


def start(source: str, target: str) -> subprocess.Popen[str]:
    """`dpn data ingest` in a process of its own."""
    command = [sys.executable, "-m", "dpn_platform", "data", "ingest", source, target, *OPTIONS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finished(target: str) -> int:
    """Slices whose result is recorded."""
    return len(list_files(join_uri(target, FINISHED_FOLDER)))


def kill_one(source: str, target: str, chance: random.Random) -> dict[str, Any]:
    """Kills an ingest once it has finished a random number of further slices, and a random moment later."""
    before = finished(target)
    process, wanted = start(source, target), before + chance.randint(1, 8)
    while finished(target) < wanted:
        if process.poll() is not None:
            return {"killed": False, "finished": finished(target)}
        time.sleep(0.02)
    time.sleep(chance.random() * 0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    published = exists(join_uri(target, "manifest.json"))
    return {"killed": True, "finished_before": before, "finished": finished(target), "published": published}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", default=f"s3://dpn/ingest-kills-{int(time.time())}")
    arguments = parser.parse_args()
    connect(start=True)
    raw, whole, killed = (f"{arguments.base}/{name}" for name in ("raw", "whole", "killed"))
    make_mix(raw, MixRecipe(arguments.rows, dirty=0.1, scale=0.3, seed=arguments.seed, lines=True))
    chance = random.Random(arguments.seed)
    attempts = [kill_one(raw, killed, chance) for _ in range(arguments.kills)]
    last, undisturbed = (json.loads(start(raw, target).communicate()[0]) for target in (killed, whole))
    manifests = [read_bytes(f"{target}/manifest.json") for target in (killed, whole)]
    print(json.dumps({"attempts": attempts, "fingerprint": last["fingerprint"]}, indent=2))
    print(f"kills: {sum(attempt['killed'] for attempt in attempts)}")
    print(f"same fingerprint: {last['fingerprint'] == undisturbed['fingerprint']}")
    print(f"same bytes of the manifest: {manifests[0] == manifests[1]}")


if __name__ == "__main__":
    main()
