"""The same sweep through Ray's job API, against the local head."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from dpn_platform import storage

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]


def test_a_submitted_sweep_finishes(small_set: str, run_dpn: Callable[..., Any]) -> None:
    runs = f"s3://dpn/submitted{os.getpid()}"
    overrides = [
        f"data.uri={small_set}",
        f"storage.runs_uri={runs}",
        f"tracking.experiment=submitted{os.getpid()}",
        "model.base=tiny",
        "train.steps=2",
        "eval.limit=10",
        "sweep.num_trials=1",
        "sweep.controls=[dense]",
    ]
    done = run_dpn("submit", "sweep", "jobs/configs/demo-sweep.yaml", *overrides, "--follow", "--json", timeout_s=600)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout[done.stdout.index("{") :])["status"] == "SUCCEEDED"
    (header,) = [storage.read_json(uri) for uri in storage.list_files(f"{runs}/studies", ".json", recursive=False)]
    assert header["state"] == "finished"
    assert storage.exists(f"{runs}/studies/{header['name']}/report/report.html")
