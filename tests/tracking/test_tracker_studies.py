"""What every Tracker promises of a study: descriptions, data, registered models and their aliases, views."""

from __future__ import annotations

import json

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking import DataInput, MemoryTracker, Version, View
from dpn_platform.tracking.jsonl import JsonlTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker
from tests.tracking.conftest import SECRET, Harness

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
