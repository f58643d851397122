"""What every Tracker promises: memory, JSON lines and MLflow (on SQLite, without a server), also in the background."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import list_files, read_bytes
from dpn_platform.tracking import DataInput, MemoryTracker, Tracker, Version, View
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.jsonl import JsonlTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker

SECRET = "correct-horse-battery"
GUARD = Guard({"AWS_SECRET_ACCESS_KEY": SECRET})


@dataclass(frozen=True)
class Seen:
    """A run as the tests look at it, whichever tracker kept it."""

    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class SeenRegistered:
    """A registered model: version -> (is current, model id), alias -> version."""

    versions: dict[str, tuple[str, str]]
    aliases: dict[str, str]
    count: int
    description: str


class Harness:
    """A tracker with a way to look inside, through `kept` where the tracker itself hands on to another."""

    def __init__(self, tracker: Tracker, kept: MemoryTracker | MlflowTracker, make: Callable[[], Tracker]) -> None:
        self.tracker = tracker
        self.kept = kept
        self._make = make
        self.latest = tracker

    def reopen(self) -> Tracker:
        """Another process on the same experiment, after the first has sent everything."""
        self._settled()
        self.latest = self._make()
        return self.latest

    def see(self, run_id: str) -> Seen:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            run = kept._run(run_id)
            return Seen(
                run.name, run.status, run.params, run.tags, {k: sorted(v.items()) for k, v in run.metrics.items()}
            )
        client = kept._runs.client
        found = client.get_run(run_id)
        metrics = {
            key: sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))
            for key in found.data.metrics
        }
        return Seen(found.info.run_name, found.info.status, found.data.params, found.data.tags, metrics)

    def registered(self, name: str) -> SeenRegistered:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            if isinstance(kept, JsonlTracker):
                kept._load_registered(name)
            model = kept.registered[name]
            versions = {key: (one.tags["dpn.on_front"], one.model_id) for key, one in model.versions.items()}
            return SeenRegistered(versions, model.aliases, len(versions), model.description)
        client = kept._runs.client
        found = client.search_model_versions(f"name = '{name}'")
        names = {str(one.version): one.tags["dpn.point"] for one in found}
        registered = client.get_registered_model(name)
        versions = {
            one.tags["dpn.point"]: (one.tags["dpn.on_front"], one.source.removeprefix("models:/")) for one in found
        }
        aliases = {alias: names[str(version)] for alias, version in registered.aliases.items()}
        return SeenRegistered(versions, aliases, len(found), registered.description)

    def outputs(self, run_id: str) -> set[str]:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            return set(kept._run(run_id).outputs)
        return {one.model_id for one in kept._runs.client.get_run(run_id).outputs.model_outputs}

    def artifact(self, run_id: str, name: str, folder: Path) -> bytes:
        kept = self._settled()
        if isinstance(kept, JsonlTracker):
            return read_bytes(f"{kept.uri}/{run_id}/artifacts/{name}")
        if isinstance(kept, MemoryTracker):
            return kept.runs[run_id].artifacts[name]
        return Path(kept._runs.client.download_artifacts(run_id, name, str(folder))).read_bytes()

    def run_count(self) -> int:
        kept = self._settled()
        if isinstance(kept, JsonlTracker):
            return len(list_files(kept.uri, "/run.json"))
        if isinstance(kept, MemoryTracker):
            return len(kept.runs)
        return len(kept._runs.client.search_runs([kept._runs.experiment_id]))

    def _settled(self) -> MemoryTracker | MlflowTracker:
        """What was kept, as another process finds it, after everything that waits was sent."""
        for tracker in (self.tracker, self.latest):
            if isinstance(tracker, BackgroundTracker):
                tracker.flush()
        if isinstance(self.kept, JsonlTracker):
            self.kept.runs.clear()
        return self.kept


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database for the module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(params=["memory", "jsonl", "jsonl in the background", "mlflow", "mlflow in the background"])
def harness(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    monkeypatch.chdir(tmp_path)  # a SQLite address keeps artifacts in the working folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)  # its registry looks models up there, as a server does
    memory = MemoryTracker(guard=GUARD)
    experiment = re.sub(r"\W", "_", request.node.name)

    def keeper() -> Any:
        if request.param == "memory":
            return memory
        if "jsonl" in request.param:
            return JsonlTracker(experiment, str(tmp_path / "tracking"), GUARD)
        return MlflowTracker(experiment, database, spool_folder=tmp_path / "spool", guard=GUARD)

    def make() -> Tracker:
        return BackgroundTracker(keeper()) if "background" in request.param else keeper()

    yield Harness(make(), keeper(), make)
    assert not (tmp_path / "spool").exists()


def test_start_run_with_a_known_key_continues_it(harness: Harness) -> None:
    first = harness.tracker.start_run("trial", key="study/1", params={"lr": 0.1}, tags={"state": "new"})
    harness.tracker.end_run(first, "FAILED")
    again = harness.reopen().start_run(
        "trial", key="study/1", params={"lr": 0.1, "steps": 5}, tags={"state": "resumed"}
    )
    assert again == first
    assert harness.run_count() == 1
    seen = harness.see(first)
    assert seen.status == "RUNNING"
    assert seen.params == {"lr": "0.1", "steps": "5"}
    assert (seen.tags["state"], seen.tags["dpn.key"]) == ("resumed", "study/1")


def test_start_run_never_changes_a_logged_parameter(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a", params={"lr": 0.1})
    harness.tracker.start_run("trial", key="a", params={"lr": 0.2})
    assert harness.see(run).params == {"lr": "0.1"}


def test_child_runs_know_their_parent(harness: Harness) -> None:
    parent = harness.tracker.start_run("study", key="study")
    children = [harness.tracker.start_run(f"trial {i}", key=f"study/{i}", parent_id=parent) for i in range(2)]
    assert len({parent, *children}) == 3
    assert [harness.see(child).tags["mlflow.parentRunId"] for child in children] == [parent, parent]


def test_log_metrics_repeated_after_resume_is_kept_once(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    for step in (10, 20, 30):
        harness.tracker.log_metrics(run, {"train/loss": 1 / step, "train/lr": 0.1}, step)
    resumed = harness.reopen()
    assert resumed.start_run("trial", key="a") == run
    for step in (20, 30, 40):
        resumed.log_metrics(run, {"train/loss": 1 / step, "train/lr": 0.1}, step)
    metrics = harness.see(run).metrics
    assert metrics["train/loss"] == [(step, pytest.approx(1 / step)) for step in (10, 20, 30, 40)]
    assert [step for step, _ in metrics["train/lr"]] == [10, 20, 30, 40]


def test_a_continued_run_logs_again_what_failed_to_be_sent(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run = harness.tracker.start_run("trial", key="a")
    harness.tracker.log_metrics(run, {"train/loss": 1.0}, 1)
    resumed = harness.reopen()
    resumed.start_run("trial", key="a")
    sender = resumed._tracker if isinstance(resumed, BackgroundTracker) else resumed
    if isinstance(sender, MlflowTracker):
        send, failures = sender._runs.client.log_batch, iter([True])

        def fails_once(*args: Any, **kwargs: Any) -> None:
            if next(failures, False):
                raise ConnectionError("reset")
            send(*args, **kwargs)

        monkeypatch.setattr(sender._runs.client, "log_batch", fails_once)
    resumed.log_metrics(run, {"train/loss": 1.0}, 1)
    resumed.log_metrics(run, {"train/loss": 0.5}, 2)
    resumed.log_metrics(run, {"train/loss": 0.25}, 3)
    assert harness.see(run).metrics["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_log_artifact_text_file_and_folder(harness: Harness, tmp_path: Path) -> None:
    run = harness.tracker.start_run("trial", key="a")
    source = tmp_path / "source"
    source.mkdir()
    (source / "local.json").write_text('{"a": 1}')
    harness.tracker.log_artifact(run, "first", "notes/readme.txt")
    harness.tracker.log_artifact(run, "second", "notes/readme.txt")
    harness.tracker.log_artifact(run, source / "local.json", "report/study.json")
    harness.tracker.log_artifact(run, source, "folder")
    assert harness.artifact(run, "notes/readme.txt", tmp_path) == b"second"
    assert json.loads(harness.artifact(run, "report/study.json", tmp_path)) == {"a": 1}
    assert harness.artifact(run, "folder/local.json", tmp_path) == b'{"a": 1}'


def test_log_model_is_registered_once_per_name(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    first = harness.tracker.log_model(run, "step-100", "s3://dpn/runs/a/100", {"step": 100}, {"eval/accuracy": 0.9})
    again = harness.reopen().log_model(run, "step-100", "s3://dpn/runs/a/100", {"step": 100}, {"eval/accuracy": 0.9})
    other = harness.tracker.log_model(run, "step-200", "s3://dpn/runs/a/200", {}, {})
    assert again == first
    assert other != first


def test_no_credential_reaches_a_run(harness: Harness, tmp_path: Path) -> None:
    run = harness.tracker.start_run(
        "trial", key="a", params={"command": f"x --key {SECRET}", "api_key": "abc"}, tags={"note": f"<{SECRET}>"}
    )
    harness.tracker.log_artifact(run, f"secret {SECRET}", "log.txt")
    (tmp_path / "leak.txt").write_text(SECRET)
    with pytest.raises(DpnError, match=r"leak\.txt: not logged"):
        harness.tracker.log_artifact(run, tmp_path / "leak.txt", "leak.txt")
    with pytest.raises(DpnError, match=r"gone\.txt: no such file"):
        harness.tracker.log_artifact(run, tmp_path / "gone.txt", "gone.txt")
    seen = harness.see(run)
    assert seen.params == {"command": "x --key ***", "api_key": "***"}
    assert seen.tags["note"] == "<***>"
    assert harness.artifact(run, "log.txt", tmp_path) == b"secret ***"


def test_long_values_and_odd_keys_are_accepted(harness: Harness) -> None:
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 10_000}
    run = harness.tracker.start_run("trial", key="a", params=params)
    assert len(harness.see(run).params) == 151
    assert len(harness.see(run).params["long"]) == 6000
    harness.tracker.log_metrics(run, {"router/keep_ratio_layer_08": float("nan"), "eval/x": 1.0})


def test_several_runs_from_threads_do_not_mix(harness: Harness) -> None:
    def trial(index: int) -> str:
        run = harness.tracker.start_run(f"trial {index}", key=f"key {index % 4}")
        harness.tracker.log_metrics(run, {"value": float(index % 4)}, step=1)
        return run

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(trial, range(8)))
    assert len(set(runs)) == harness.run_count() == 4
    for index, run in enumerate(runs):
        assert {value for _, value in harness.see(run).metrics["value"]} == {float(index % 4)}


def test_urls_name_the_run(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    assert harness.tracker.run_url(run).startswith(harness.tracker.experiment_url())
    assert run in harness.tracker.run_url(run)


def test_trackers_fulfil_the_protocol(harness: Harness) -> None:
    assert isinstance(harness.tracker, Tracker)


DATA = [
    DataInput("set/train", "0123456789abcdef", "s3://dpn/set", 40, "training"),
    DataInput("set/test", "0123456789abcdef", "s3://dpn/set", 10, "evaluation"),
]
VIEW = View("s", "s: accuracy", ("dpn.study", "s"), ("point/flops_ratio",), across="point/flops_ratio", up="x")


def test_describe_renews_tags_and_note_of_an_ended_run(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a", tags={"dpn.rank": "2", "dpn.kind": "trial"})
    harness.tracker.end_run(run, "FINISHED")
    for rank in ("3", "1"):
        harness.tracker.describe(run, note=f"rank {rank} <{SECRET}>", tags={"dpn.rank": rank, "api_key": "abc"})
    harness.reopen().describe(run, tags={"dpn.more": "x"})
    seen = harness.see(run)
    assert seen.status == "FINISHED"
    assert {key: seen.tags[key] for key in ("dpn.rank", "dpn.kind", "dpn.more")} == {
        "dpn.rank": "1", "dpn.kind": "trial", "dpn.more": "x"
    }  # fmt: skip
    assert (seen.tags["mlflow.note.content"], seen.tags["api_key"]) == ("rank 1 <***>", "***")


def test_data_of_a_run_is_named_once(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    harness.tracker.log_data(run, DATA)
    harness.reopen().log_data(run, DATA)
    kept = harness._settled()
    if isinstance(kept, MemoryTracker):
        found = [(one["name"], one["digest"], one["rows"], one["context"]) for one in kept._run(run).data]
    else:
        inputs = kept._runs.client.get_run(run).inputs.dataset_inputs
        found = [
            (one.dataset.name, one.dataset.digest, json.loads(one.dataset.profile)["num_rows"], one.tags[0].value)
            for one in inputs
        ]
    assert sorted(found, reverse=True) == [(one.name, one.digest, one.rows, one.context) for one in DATA]


def test_a_front_is_one_registered_model_whose_aliases_follow_it(harness: Harness) -> None:
    study = harness.tracker.start_run("study", key="s")
    name = f"s-{harness.tracker.experiment_url().rpartition('/')[2] or 'jsonl'}"  # the registry is the whole server's
    trials = {key: harness.tracker.start_run(key, key=f"s/{key}") for key in ("a", "b", "c")}
    models = {key: harness.tracker.log_model(run, f"s-{key}", f"s3://x/{key}") for key, run in trials.items()}

    def versions(*keys: str) -> list[Version]:
        return [Version(key, models[key], f"point {key}", {"dpn.uri": f"s3://x/{key}"}) for key in keys]

    first = {"best": "b", "knee": "b", "budget-40": "a"}
    for tracker in (harness.tracker, harness.reopen()):  # a resume changes nothing
        tracker.register_models(study, name, versions("a", "b"), description=f"front {SECRET}", aliases=first)
    seen = harness.registered(name)
    assert seen.versions == {"a": ("true", models["a"]), "b": ("true", models["b"])}
    assert (seen.aliases, seen.count, seen.description) == (first, 2, "front ***")
    assert harness.outputs(study) == {models["a"], models["b"]}

    harness.tracker.set_alias(name, "champion", "a")
    # b was beaten, and there is no knee
    harness.tracker.register_models(study, name, versions("a", "c"), aliases={"best": "c", "knee": None})
    seen = harness.registered(name)
    assert {key: is_current for key, (is_current, _) in seen.versions.items()} == {
        "a": "true",
        "b": "false",
        "c": "true",
    }
    assert seen.aliases == {"best": "c", "budget-40": "a", "champion": "a"}
    harness.tracker.set_alias(name, "champion", "b")
    harness.tracker.set_alias(name, "budget-40", None)
    harness.tracker.set_alias(name, "budget-40", None)
    assert harness.registered(name).aliases == {"best": "c", "champion": "b"}
    with pytest.raises(DpnError, match=r"has no version 'd'; it has: a, b, c"):
        harness.tracker.set_alias(name, "champion", "d")
    with pytest.raises(DpnError, match=r"no registered model 'nowhere"):
        harness.tracker.set_alias("nowhere", "champion", "a")
    with pytest.raises(DpnError, match=r"alias 'budget-0\.4'.*are allowed"):
        harness.tracker.set_alias(name, "budget-0.4", "a")


def test_a_view_has_an_address_where_there_are_pages(harness: Harness) -> None:
    addresses = {harness.tracker.show(VIEW), harness.reopen().show(VIEW)}
    assert len(addresses) == 1
    kept = harness._settled()
    assert (addresses == {""}) == isinstance(kept, JsonlTracker)
    if isinstance(kept, MlflowTracker):
        tags = kept._runs.client.get_experiment(kept._runs.experiment_id).tags
        assert "viewStateShareKey=dpn-chart-s&" in addresses.pop()
        assert json.loads(tags["mlflow.sharedViewState.dpn-chart-s"])["name"] == "s: accuracy"
        assert "viewStateShareKey=dpn-chart-s&" in tags["mlflow.note.content"]
