"""`dpn data ingest` killed with SIGKILL in the middle of its Ray job, and run again: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.finished import FINISHED_FOLDER, finish_slice
from dpn_platform.data.ingest import IngestOptions, ingest
from dpn_platform.data.manifest import Shard, load_manifest
from dpn_platform.data.mix.build import MixRecipe, make_mix
from dpn_platform.data.shards import BuildOptions
from dpn_platform.data.slicing import read_slices
from dpn_platform.data.sources import folder_source
from dpn_platform.data.verify import verify
from dpn_platform.services.ray_client import init_ray

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

BASE = f"s3://dpn/test-ingest-kill-{uuid.uuid4().hex[:8]}"
SHARDS, ROWS_PER_SHARD = 15, 20


def test_killed_ingest_continues_and_counts_what_was_planted(services: Any, repo_root: Path) -> None:
    source, target, undisturbed = f"{BASE}/raw", f"{BASE}/killed", f"{BASE}/undisturbed"
    planted = make_mix(source, MixRecipe(rows=ROWS_PER_SHARD * SHARDS, dirty=0.1, scale=0.15, lines=True))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root / "platform"), str(repo_root)])}
    command = ["data", "ingest", source, target, "--rows-per-shard", str(ROWS_PER_SHARD)]
    process = subprocess.Popen([sys.executable, "-m", "dpn_platform", *command], env=env, stderr=subprocess.PIPE)
    while len(storage.list_files(f"{target}/{FINISHED_FOLDER}")) < 4:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(DpnError, match="holds shards but no manifest.json: an ingest was interrupted"):
        load_manifest(target)

    init_ray()
    notes: list[str] = []
    options = IngestOptions(rows_per_shard=ROWS_PER_SHARD, max_quarantined=0.2)
    manifest = ingest(source, target, options=options, on_note=notes.append)

    raw = folder_source(source)
    whole = read_slices(raw, undisturbed, BuildOptions(raw.image_roots), ROWS_PER_SHARD, {})
    shards = [Shard(**finish_slice(part)["shard"]) for part in whole]
    split = manifest.split("train")
    assert [f"of {SHARDS} shards were finished by an earlier run" in note for note in notes] == [True]
    assert split.shards == tuple(shards)
    assert Counter(manifest.quarantine.reasons) + Counter(split.repairs) + Counter(split.kept) == planted["planted"]
    assert split.rows + manifest.quarantine.rows == planted["rows"]
    report = verify(manifest, decode=True)
    assert (report.problems, report.images_decoded) == ([], split.images)
