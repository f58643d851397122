"""A set with every kind of bad input: ingest killed in the middle, continued behind a faulty store, trained on there.

What is published is what an undisturbed ingest builds, the counts are those planted, and the run sees its rows once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.finished import FINISHED_FOLDER, finish_slice
from dpn_platform.data.ingest.policy import KINDS
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source
from dpn_platform.data.published.manifest import Manifest, Shard, load_manifest
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.batch_plan import plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.demo.mix.build import MixRecipe, make_mix

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

BASE = f"s3://dpn/test-dirty-set-{uuid.uuid4().hex[:8]}"
SOURCE, TARGET = f"{BASE}/raw", f"{BASE}/set"
SHARDS, ROWS_PER_SHARD = 12, 40
STEPS, SETTINGS = 3, BatchSettings(4, 4, by_modality=True)
TRAIN = {
    "name": "dirty",
    "data": {"uri": TARGET, "grouping": "modality"},
    "model": {"base": "tiny"},
    "train": {"steps": STEPS, "global_batch_size": 16, "micro_batch_size": 4},
}
# A job of its own: it and its Ray workers reach the store through the proxy.
JOB = """
import json, os, sys
from dpn_platform.services.ray_client import init_ray
init_ray(env_vars={"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]})
from dpn_platform.config.load import parse_config
from dpn_platform.data.ingest.job import IngestOptions, ingest
from tests.integration.local_run import group_of_one, run_here

source, target, rows_per_shard, train = sys.argv[1:]
notes = []
options = IngestOptions(rows_per_shard=int(rows_per_shard), max_quarantined=0.2)
ingest(source, target, options=options, on_note=notes.append)
with group_of_one():
    losses, keys = run_here(parse_config(json.loads(train)))
print(json.dumps({"notes": notes, "losses": losses, "keys": keys}))
"""


@dataclass(frozen=True)
class Happened:
    planted: dict[str, Any]
    manifest: Manifest
    told: dict[str, Any]
    faults: Counter[str]


@pytest.fixture(scope="module")
def happened(services: Any, repo_root: Path, faulty_store: Callable[..., Any]) -> Happened:
    planted = make_mix(SOURCE, MixRecipe(rows=ROWS_PER_SHARD * SHARDS, dirty=0.1, scale=0.15, lines=True))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root / "platform"), str(repo_root)])}
    kill_in_the_middle(env)
    with pytest.raises(DpnError, match=r"holds shards but no manifest.json: an ingest was interrupted"):
        load_manifest(TARGET)
    with faulty_store(services.s3_url) as store:
        finished = subprocess.run(
            [sys.executable, "-c", JOB, SOURCE, TARGET, str(ROWS_PER_SHARD), json.dumps(TRAIN)],
            env={**env, "AWS_ENDPOINT_URL": store.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout.splitlines()[-1])
    return Happened(planted, load_manifest(TARGET), told, store.met)


def kill_in_the_middle(env: dict[str, str]) -> None:
    command = ["data", "ingest", SOURCE, TARGET, "--rows-per-shard", str(ROWS_PER_SHARD)]
    process = subprocess.Popen([sys.executable, "-m", "dpn_platform", *command], env=env, stderr=subprocess.PIPE)
    while len(storage.list_files(f"{TARGET}/{FINISHED_FOLDER}")) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_the_published_set_is_that_of_an_undisturbed_ingest(happened: Happened) -> None:
    raw, manifest = folder_source(SOURCE), happened.manifest
    whole = read_slices(raw, f"{BASE}/undisturbed", BuildOptions(raw.image_roots), ROWS_PER_SHARD, {})

    assert manifest.split("train").shards == tuple(Shard(**finish_slice(part)["shard"]) for part in whole)
    assert [f"of {SHARDS} shards were finished by an earlier run" in note for note in happened.told["notes"]] == [True]
    assert {"busy", "reset", "truncated", "late"} <= set(happened.faults)


def test_every_planted_defect_is_counted_and_nothing_else_is_lost(happened: Happened) -> None:
    split, quarantine = happened.manifest.split("train"), happened.manifest.quarantine
    found = Counter(quarantine.reasons) + Counter(split.repairs) + Counter(split.kept)

    assert found == happened.planted["planted"]
    assert set(found) == set(KINDS)
    assert split.rows + quarantine.rows == happened.planted["rows"]
    report = verify(happened.manifest, decode=True)
    assert (report.problems, report.images_decoded) == ([], split.images)


def test_a_run_over_it_sees_the_planned_rows_once(happened: Happened) -> None:
    split, index = happened.manifest.split("train"), read_row_index(happened.manifest, "train")
    plan = plan_batches(split, SETTINGS, seed=0, index=index, steps=STEPS)

    assert happened.told["keys"] == sorted(plan.sample_keys().tolist())
    assert len(happened.told["losses"]) == STEPS
    assert all(0 < loss < 20 for loss in happened.told["losses"])
