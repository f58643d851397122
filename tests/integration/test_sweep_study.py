"""A whole study on real Ray Tune, with trials that only pretend to train: order, books, failures, resume."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.services.ray_client import init_ray
from dpn_platform.storage import read_bytes, read_json
from dpn_platform.sweeps.catalogue import list_studies
from dpn_platform.sweeps.events import StudyEvent
from dpn_platform.tracking import MemoryTracker
from tests.integration.pretended_studies import calls_of, pretend, pretended, start, statuses

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def cluster(services: Any) -> None:
    init_ray()


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    return pretended(tmp_path)


def test_a_study_from_start_to_end(config: ExperimentConfig, tmp_path: Path) -> None:
    tracker, events, calls = MemoryTracker(), [], tmp_path / "calls"
    result = start(config, pretend(calls), tracker, on_event=events.append)
    assert [point.name for point in result.points] == ["dense", "static_2x2", "dpn-00", "dpn-01"]
    assert [point.is_control for point in result.points] == [True, True, False, False]
    assert result.examples["dpn-00"] == ({"question": "what ?"},)
    assert (result.failed, result.stopped) == ({}, {})
    assert calls_of(calls) == [("s-dense", None), ("s-static_2x2", None), ("s-dpn-00", 0.5), ("s-dpn-01", 0.5)]
    assert set(statuses(tracker).values()) == {"FINISHED"}
    assert {event.kind for event in events} == {"study", "started", "progress", "finished"}
    assert (events[-1].done, events[-1].total) == (4, 4)
    parent = tracker.runs[result.run_id]
    children = tracker.children(result.run_id)
    assert [child.tags["dpn.key"] for child in children] == ["s/dense", "s/static_2x2", "s/dpn-00", "s/dpn-01"]
    for child, point in zip(children, result.points, strict=True):
        assert point.run_id == child.run_id
        assert child.metrics["train/loss_lm"] == {2: 1.0, 4: 0.5}
        assert child.metrics["eval/m/colour/accuracy"] == {4: point.per_family["colour"].accuracy}
        assert child.metrics["cost/flops_ratio_swiglu"] == {4: point.flops_ratio["swiglu"]}
        assert child.models[f"s-{point.name}"].uri == point.checkpoint_uri
        assert {"point.json", "config.yaml", "provenance.json"} <= set(child.artifacts)
        assert json.loads(child.artifacts["routing.json"])["sites"][0]["expert_shares"] == {"2x2": [1.0, None]}
        assert "routes/layer_02/2x2" not in child.metrics
    provenance = json.loads(parent.artifacts["provenance.json"])
    assert provenance["data_fingerprint"] == "data1"
    assert provenance["seeds"] == {"train": 0, "sweep": 0}
    assert read_json(f"{config.storage.runs_uri}/studies/s.json")["state"] == "finished"

    # It is not run again.
    with pytest.raises(DpnError, match="exists already"):
        start(config, pretend(calls), tracker)
    again = start(config, pretend(calls), tracker, resume=True)
    assert again.points == result.points
    assert len(calls_of(calls)) == 4
    assert set(statuses(tracker).values()) == {"FINISHED"}


def test_controls_on_the_dense_checkpoint_also_at_the_budgets_of_the_front(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    """What trains nothing is evaluated; the study's own controls follow its searched trials, also after a resume."""
    sweep = {"num_trials": 2, "controls": ["dense", {"name": "fastv", "budget": 0.5, "on": "dense"}]}
    values = {**config.model_dump(mode="json"), "sweep": {**sweep, "controls_at_front": True}}
    config, tracker, calls = parse_config(values), MemoryTracker(), tmp_path / "calls"
    events: list[StudyEvent] = []
    result = start(config, pretend(calls), tracker, on_event=events.append)
    names = [point.name for point in result.points]
    drops = [name for name in names if name.startswith("random_drop")]
    assert drops == [f"random_drop-0.600-seed-{seed}" for seed in range(3)]
    assert {"dense", "fastv-at-0.500-free", "dpn-00", "dpn-01"} <= set(names)
    [fastv] = [point for point in result.points if point.name == "fastv-at-0.500-free"]
    assert fastv.params == {"method.keep": pytest.approx(0.33, abs=0.02)}
    assert fastv.checkpoint_uri == f"{config.storage.runs_uri}/s-dense/export"
    assert "train/loss_lm" not in tracker.runs[str(fastv.run_id)].metrics
    before = calls_of(calls)
    again = start(config, pretend(calls), tracker, resume=True)
    assert [point.name for point in again.points] == names
    assert calls_of(calls) == before


def test_failed_trials_are_tried_again_and_hopeless_ones_are_not(config: ExperimentConfig, tmp_path: Path) -> None:
    tracker, calls = MemoryTracker(), tmp_path / "calls"
    result = start(config, pretend(calls, {"dpn-00": "fail", "dpn-01": "stop"}), tracker)
    assert result.failed == {"dpn-00": "no such thing"}
    assert result.stopped == result.meta["stopped"] == {"dpn-01": "hopeless"}
    assert [point.name for point in result.points] == ["dense", "static_2x2"]
    assert (statuses(tracker)["s-dpn-00"], statuses(tracker)["s-dpn-01"]) == ("FAILED", "KILLED")
    [standing] = list_studies(config.storage.runs_uri, with_records=True)
    assert standing.told == "finished, 1 failed"
    healed = start(config, pretend(calls), tracker, study_name=None, resume=True)
    assert [point.name for point in healed.points] == ["dense", "static_2x2", "dpn-00"]
    [standing] = list_studies(config.storage.runs_uri, with_records=True)
    assert standing.told == "finished"
    assert Counter(name for name, _ in calls_of(calls))["s-dpn-00"] == 2
    assert len(calls_of(calls)) == 5
    assert Counter(run.tags["dpn.key"] for run in tracker.runs.values()).most_common(1)[0][1] == 1
    assert Counter(statuses(tracker).values()) == {"FINISHED": 4, "KILLED": 1}


def test_without_the_dense_control_the_study_ends(config: ExperimentConfig, tmp_path: Path) -> None:
    tracker, calls = MemoryTracker(), tmp_path / "calls"
    with pytest.raises(DpnError, match="the control 'dense' failed: no such thing"):
        start(config, pretend(calls, {"dense": "fail"}), tracker)
    assert statuses(tracker)["s"] == "FAILED"
    assert len(calls_of(calls)) <= 2
    assert len(start(config, pretend(calls), tracker, resume=True).points) == 4


def test_a_fault_of_the_code_ends_the_study_at_its_first_trial(config: ExperimentConfig, tmp_path: Path) -> None:
    tracker, calls = MemoryTracker(), tmp_path / "calls"
    one_by_one = config.sweep.model_copy(update={"max_concurrent_trials": 1, "num_trials": 4})  # type: ignore[union-attr]
    alone = config.model_copy(update={"sweep": one_by_one})
    with pytest.raises(DpnError, match="static_2x2 failed as every other would: AttributeError: no attribute") as told:
        start(alone, pretend(calls, {"static_2x2": "fault"}), tracker)
    assert len(calls_of(calls)) == 2
    trace = str(told.value).rpartition("the whole trace: ")[2]
    assert "in execute" in read_bytes(trace).decode()


def test_an_interrupted_study_goes_on(config: ExperimentConfig, tmp_path: Path) -> None:
    """The watcher raises, as Ctrl-C does, when the second trial has ended."""
    tracker, calls = MemoryTracker(), tmp_path / "calls"

    def interrupt(event: StudyEvent) -> None:
        if event.kind == "finished" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(config, pretend(calls), tracker, on_event=interrupt)
    assert statuses(tracker)["s"] == "KILLED"
    result = start(config, pretend(calls), tracker, resume=True)
    assert len(result.points) == 4
    assert len(calls_of(calls)) == 4
    assert set(statuses(tracker).values()) == {"FINISHED"}

    # And farther than it was meant to.
    assert config.sweep is not None
    longer = config.model_copy(update={"sweep": config.sweep.model_copy(update={"num_trials": 3})})
    extended = start(longer, pretend(calls), tracker, resume=True)
    assert [point.name for point in extended.points][-1] == "dpn-02"
    assert len(calls_of(calls)) == 5
    assert len({json.dumps(point.params) for point in extended.points if not point.is_control}) == 3
