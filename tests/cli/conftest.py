"""Studies in a store on this disk, and the verbs of `dpn study` run on them."""

from __future__ import annotations

import json

import pytest

from dpn_platform.cli import main
from tests.sweeps.written_studies import OPEN, small_trials, write_study


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two studies, `alpha` finished and `beta` better and interrupted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    runs = f"file://{tmp_path}/runs"
    write_study(runs, "alpha", small_trials())
    write_study(runs, "beta", small_trials(gain=0.15), unfinished=OPEN, config={"train": {"steps": 8}})
    return runs


@pytest.fixture
def study(runs, capsys):
    """Runs a verb on these studies; gives what it printed."""

    def run(*arguments, code=0, runs_uri=runs):
        assert main.run(["study", *arguments, "--runs-uri", runs_uri]) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def document(study):
    return lambda *arguments: json.loads(study(*arguments, "--json").out)


@pytest.fixture
def refused(study):
    def run(*arguments, **more):
        captured = study(*arguments, code=2, **more)
        assert captured.out == ""
        assert captured.err.rstrip("\n").rpartition("\n")[2].startswith("dpn: error: ")
        assert "Traceback" not in captured.err
        return captured.err

    return run
