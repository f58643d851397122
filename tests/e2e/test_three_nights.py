"""Three nights of a pipeline, everything real: the second is killed at random moments; front, aliases, MLflow, storage.

`tests/integration/test_pipeline.py` has the same nights with trials that pretend, in seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from dpn_platform import storage
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.training.metric_lines import read_metrics

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

KILLS = 4
NIGHTS = ("2026-11-23", "2026-11-24", "2026-11-25")


@pytest.fixture
def recipe(small_set: str, repo_root: Path) -> list[str]:
    """The nightly pipeline at small size: one control, one new trial a night."""
    name = f"nights{os.getpid()}"
    values = {
        "name": name,
        "data.uri": small_set,
        "model.base": "tiny",
        "storage.runs_uri": f"s3://dpn/{name}",
        "tracking.experiment": name,
        "train.steps": 60,
        "train.global_batch_size": 8,
        "train.micro_batch_size": 8,
        "train.checkpoint_every_steps": 10,
        "train.log_every_steps": 5,
        "eval.limit": 30,
        "eval.routes": "own",
        "sweep.max_concurrent_trials": 1,
        "sweep.controls": "[dense]",
        "pipeline.trials": 1,
        "pipeline.aliases": "[champion, budget-0.90]",
    }
    return [str(repo_root / "jobs/configs/nightly.yaml"), *(f"{key}={value}" for key, value in values.items())]


def test_three_nights_of_which_the_second_is_killed_at_random(
    recipe: list[str], tmp_path: Path, services: Any, start_dpn: Callable[..., Any], run_dpn: Callable[..., Any]
) -> None:
    name, data = (
        next(one for one in recipe if one.startswith(f"{key}=")).partition("=")[2] for key in ("name", "data.uri")
    )
    published = load_manifest(data).fingerprint

    def night(slot: str) -> dict[str, Any]:
        done = run_dpn("pipeline", "run", *recipe, "--slot", slot, "--json", timeout_s=600)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    first = night(NIGHTS[0])
    study = first["stages"]["plan"]["study"]
    ledger = Ledger(f"s3://dpn/{name}", study)
    assert set(ledger.trials()) == {"dense", "dpn-00"}
    aliases = json.loads(run_dpn("study", "aliases", study, "--runs-uri", ledger.runs_uri, "--json").stdout)["aliases"]
    assert "champion" in aliases

    draw, kills = random.Random(os.getpid()), 0
    print(f"seed {os.getpid()}")
    for attempt in range(KILLS):
        process = start_dpn(f"second-{attempt}", "pipeline", "run", *recipe, "--slot", NIGHTS[1])
        try:
            assert process.wait(timeout=draw.uniform(4, 16)) == 0, (tmp_path / f"second-{attempt}.err").read_text()
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    second = night(NIGHTS[1])
    assert kills > 0
    assert second["stages"]["study"]["new"] == ["dpn-01"], "whichever attempt it ended in"
    assert night(NIGHTS[1]) == second, "a slot that is done does nothing more"

    third = night(NIGHTS[2])
    assert third["stages"]["study"]["new"] == ["dpn-02"]

    # The ledger: three nights, every trial once and whole.
    trials = ledger.trials()
    assert {key: trial.state for key, trial in trials.items()} == dict.fromkeys(
        ("dense", "dpn-00", "dpn-01", "dpn-02"), "finished"
    )
    assert [trial.extension for trial in trials.values()] == [0, 0, 1, 2]
    header = ledger.header()
    assert header.state == "finished"
    assert [one["number"] for one in header.extensions] == [1, 2]
    for key in trials:
        lines = read_metrics(f"{ledger.runs_uri}/{study}-{key}")
        assert [line["step"] for line in lines] == list(range(5, 65, 5)), f"{key}: no line twice, none lost"

    # The front and its aliases.
    shown = json.loads(run_dpn("study", "show", study, "--runs-uri", ledger.runs_uri, "--json").stdout)
    assert len(shown["points"]) == 4
    history = json.loads(
        run_dpn("study", "aliases", study, "--history", "--runs-uri", ledger.runs_uri, "--json").stdout
    )
    numbers = [one["number"] for one in history["decisions"]]
    assert numbers == list(range(1, len(numbers) + 1)), "every decision is kept once"
    assert set(history["aliases"]) <= {"champion", "budget-0.90"}

    # MLflow: one parent run, a child per trial, all ended; the registered model's aliases are those of the study.
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["dpn.key"] for run in runs) == sorted([study, *(f"{study}/{key}" for key in trials)])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parent = next(run for run in runs if run.data.tags["dpn.key"] == study)
    volumes = client.get_metric_history(parent.info.run_id, "front/hypervolume")
    assert sorted({one.step for one in volumes}) == [0, 1, 2]

    # Storage: what was being written when it was killed is not there half, and the data set is as it was.
    for uri in storage.list_files(f"{ledger.runs_uri}/studies", ".json"):
        if "/tune/" not in uri:  # Ray Tune calls its pickles so
            storage.read_json(uri)
    assert load_manifest(data).fingerprint == published
