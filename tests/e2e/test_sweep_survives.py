"""The main job at small size, with everything real: interrupted, killed, resumed; what it leaves is whole and clean.

Its last attempt is a job submitted to the cluster.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.util.state import list_actors

from dpn_platform import storage
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.place import published_alone

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

# Long enough that a trial is still at work when the signal sent at its first checkpoint arrives.
CHECKPOINT_EVERY, STEPS = 10, 160


CONFIG = "jobs/configs/demo-sweep.yaml"


@pytest.fixture
def name() -> str:
    """Of the experiment, and of the bucket's folder for its runs."""
    return f"e2e{os.getpid()}"


@pytest.fixture
def recipe(small_set: str, name: str, repo_root: Path) -> list[str]:
    """The demo's sweep, cut down to one control and one trial that take seconds each: what every attempt is given."""
    values = {
        "name": name,
        "data.uri": small_set,
        "model.base": "tiny",
        "storage.runs_uri": f"s3://dpn/{name}",
        "tracking.experiment": name,
        "train.steps": STEPS,
        "train.global_batch_size": 8,
        "train.micro_batch_size": 8,
        "train.checkpoint_every_steps": CHECKPOINT_EVERY,
        "train.log_every_steps": 1,
        "eval.limit": 30,
        "sweep.num_trials": 1,
        "sweep.max_concurrent_trials": 1,
        "sweep.controls": "[dense]",
    }
    return [str(repo_root / CONFIG), *(f"{key}={value}" for key, value in values.items())]


def wait_for(condition: Callable[[], bool], process: Any, log: Path, timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def checkpoints(run_uri: str) -> list[int]:
    """Steps of the checkpoints that are published."""
    return [int(name.removeprefix("step_")) for name in published_alone(run_uri)]


def test_interrupt_kill_resume(
    recipe: list[str],
    name: str,
    tmp_path: Path,
    services: Any,
    start_dpn: Callable[..., Any],
    run_dpn: Callable[..., Any],
) -> None:
    runs = f"s3://dpn/{name}"

    # kill -9 to the first trial's process, after a checkpoint: it is started again and goes on from there.
    process = start_dpn("first", "sweep", *recipe, "--name", "s")
    wait_for(lambda: bool(checkpoints(f"{runs}/s-dense")), process, tmp_path / "first.err")
    kill_trial(runs)
    reached = checkpoints(f"{runs}/s-dense")[-1]
    # Ctrl-C, once it has.
    wait_for(lambda: checkpoints(f"{runs}/s-dense")[-1] > reached, process, tmp_path / "first.err")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert "--resume" in (tmp_path / "first.err").read_text().splitlines()[-1]
    runs_of = mlflow_runs(name)
    assert {run.data.tags["dpn.key"]: run.info.status for run in runs_of} == {"s": "KILLED", "s/dense": "KILLED"}

    # kill -9 in the second trial, after a checkpoint. Meanwhile nobody else may run the study.
    process = start_dpn("second", "sweep", *recipe, "--resume")
    run_uri = f"{runs}/s-dpn-00"
    wait_for(lambda: storage.exists(f"{runs}/s-dense/outcome.json"), process, tmp_path / "second.err")
    refused = run_dpn("sweep", *recipe, "--name", "s", "--resume")
    assert refused.returncode == 2
    assert f"is being run by process {process.pid}" in refused.stderr
    wait_for(lambda: bool(checkpoints(run_uri)), process, tmp_path / "second.err")
    process.send_signal(signal.SIGKILL)
    process.wait()
    dense = storage.read_bytes(f"{runs}/s-dense/outcome.json")
    assert json.loads(dense)["resumed_from"] >= reached
    reached = checkpoints(run_uri)[-1]

    # Resume to the end, on the cluster; then it is asked for its result.
    job = run_dpn("submit", "sweep", *recipe, "--resume", "--follow", "--json", timeout_s=600)
    assert job.returncode == 0, job.stderr + job.stdout
    assert json.loads(job.stdout[job.stdout.index("{") :])["status"] == "SUCCEEDED"
    done = run_dpn("sweep", *recipe, "--name", "s", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["study"] == "s"
    assert [point["name"] for point in document["points"]] == ["dense", "dpn-00"]
    wanted = {"method", "params", "accuracy", "accuracy_ci", "flops_ratio_eq8", "flops_ratio_swiglu"}
    assert wanted | {"visual_tokens_mean", "on_front"} <= set(document["points"][0])
    assert document["hypervolume"] >= 0
    assert Path(document["report"]).read_text().startswith("<!doctype html>")
    assert document["mlflow_uri"].startswith(services.mlflow_url)

    assert storage.read_bytes(f"{runs}/s-dense/outcome.json") == dense, "a finished trial was repeated"
    outcome = storage.read_json(f"{run_uri}/outcome.json")
    assert outcome["resumed_from"] >= reached, "work before the last checkpoint was repeated"
    assert [line["step"] for line in read_metrics(run_uri)] == list(range(1, STEPS + 1))
    check_mlflow(name)
    check_secrets(services.s3_secret_key, runs, [tmp_path / "first.err", tmp_path / "second.err"], job, done)


def kill_trial(runs_uri: str) -> None:
    """SIGKILL to the process in which the study `s` trains its trial."""
    lease = storage.read_json(storage.list_files(f"{runs_uri}/studies/s/lease", ".json")[-1])
    of_study = [("job_id", "=", lease["job_id"]), ("state", "=", "ALIVE")]
    [trial] = [actor for actor in list_actors(filters=of_study) if actor.class_name in ("ImplicitFunc", "run_trial")]
    os.kill(trial.pid, signal.SIGKILL)


def mlflow_runs(experiment: str) -> list[Any]:
    client = MlflowClient()
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def check_mlflow(experiment: str) -> None:
    """Each trial once, finished, with its whole curve and its model."""
    runs = {run.data.tags["dpn.key"]: run for run in mlflow_runs(experiment)}
    assert Counter(run.info.status for run in mlflow_runs(experiment)) == {"FINISHED": 3}
    assert set(runs) == {"s", "s/dense", "s/dpn-00"}
    parent = runs.pop("s")
    assert {"front/hypervolume", "front/size"} <= set(parent.data.metrics)
    client = MlflowClient()
    assert {item.path for item in client.list_artifacts(parent.info.run_id, "report")} >= {
        f"report/{name}" for name in ("report.html", "front.png", "pareto.json", "pareto.csv", "study.json")
    }
    for run in runs.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert {"eval/e2e/accuracy", "cost/flops_ratio_swiglu", "cost/visual_tokens_mean"} <= set(run.data.metrics)
        history = client.get_metric_history(run.info.run_id, "train/loss_lm")
        assert sorted(point.step for point in history) == list(range(1, STEPS + 1))
    models = client.search_logged_models([parent.info.experiment_id])
    assert sorted(model.name for model in models) == ["s-dense", "s-dpn-00"]


def check_secrets(secret: str, runs_uri: str, logs: list[Path], *ended: Any) -> None:
    """The S3 secret is in nothing that was written or printed."""
    texts = [path.read_bytes() for path in logs]
    texts += [text.encode() for process in ended for text in (process.stdout, process.stderr)]
    texts += [storage.read_bytes(uri) for uri in storage.list_files(runs_uri) if not uri.endswith(".pt")]
    for run in mlflow_runs(runs_uri.rpartition("/")[2]):
        texts += [json.dumps({**run.data.params, **run.data.tags}).encode()]
    assert len(texts) > 50
    assert not any(secret.encode() in text for text in texts)
