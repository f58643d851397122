"""`dpn study extend --dry-run`: says what is open from what is there, and starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray

from dpn_platform.cli import main
from dpn_platform.data.published.manifest import Manifest, Quarantine, Split
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import list_sizes
from tests.sweeps.written_studies import small_trials, write_study


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished study with its data set beside it, on this disk; a service that is asked for is a failure."""
    monkeypatch.setattr("dpn_platform.services.session", lambda *_, **__: pytest.fail("asked for services"))
    split = Split(rows=100, images=100, text_only=0, sources={}, shards=())
    splits = {"train": split, "test": split}
    about = {"schema_version": SCHEMA_VERSION, "name": "m", "source": "", "fingerprint": "f"}
    manifest = Manifest(**about, splits=splits, quarantine=Quarantine())
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    runs = f"file://{tmp_path}/runs"
    tracking = {"backend": "mlflow"}
    write_study(runs, "alpha", small_trials(), config={"data": {"uri": str(tmp_path)}, "tracking": tracking})
    return runs


def test_a_dry_run_starts_and_writes_nothing(runs: str, capfd: Any) -> None:
    before = list_sizes(runs)
    assert main.run(["study", "extend", "alpha", "--trials", "2", "--dry-run", "--runs-uri", runs]) == 0
    assert capfd.readouterr().out == "2 trials to run\n"
    assert main.run(["study", "extend", "alpha", "--trials", "2", "--dry-run", "--json", "--runs-uri", runs]) == 0
    assert json.loads(capfd.readouterr().out) == {"trials": 2, "taken_over": 0, "device_hours": None}
    assert list_sizes(runs) == before
    assert not ray.is_initialized()


def test_controls_at_budgets_are_settled_in_this_process(runs: str, capfd: Any) -> None:
    change = 'sweep.controls=[dense, static_2x2, {name: fastv, budget: 0.5, "on": dense}]'
    assert main.run(["study", "extend", "alpha", change, "--dry-run", "--runs-uri", runs]) == 0
    assert capfd.readouterr().out == "1 trial to run\n"
    assert not ray.is_initialized()


def test_what_cannot_be_extended_so_is_refused_in_one_line(runs: str, capfd: Any) -> None:
    assert main.run(["study", "extend", "alpha", "train.steps=9", "--dry-run", "--runs-uri", runs]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "its points would not be comparable: train.steps: 4 -> 9; keep them apart with --branch" in captured.err
    assert "Traceback" not in captured.err
