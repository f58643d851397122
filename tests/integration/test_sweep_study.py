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
from dpn_platform.data.published.manifest import Manifest, Quarantine
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.services.ray_client import init_ray
from dpn_platform.storage import delete_folder, read_bytes, read_json, write_json
from dpn_platform.sweeps.events import StudyEvent
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.stopping import Verdict
from dpn_platform.sweeps.study import StudyResult, run_study
from dpn_platform.sweeps.trainable import Assignment, Execute, Execution
from dpn_platform.tracking import MemoryTracker
from dpn_platform.training.run_folder import TrainingOutcome

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def cluster(services: Any) -> None:
    init_ray()


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, name="m", source="", splits={}, quarantine=Quarantine(), fingerprint="data1"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_bytes(manifest.to_bytes())
    return parse_config(
        {
            "name": "try",
            "data": {"uri": str(tmp_path / "data")},
            "storage": {"runs_uri": str(tmp_path / "runs")},
            "train": {"steps": 4},
            "sweep": {"num_trials": 2, "controls": ["dense", "static_2x2"]},
        }
    )


def pretend(calls: Path, problems: dict[str, str] | None = None) -> Execute:
    """A trial that notes its call in a file and leaves a result; `problems`: run name's end -> what happens instead."""
    problems = problems or {}

    def execute(assignment: Assignment) -> Execution:
        config, name, judge, checkpoint_uri, *_ = assignment
        reference_loss = None if judge is None else judge.reference_loss
        with calls.open("a") as file:
            file.write(json.dumps([name, reference_loss]) + "\n")
        problem = next((what for end, what in problems.items() if name.endswith(end)), None)
        if problem == "fail":
            raise DpnError("no such thing")
        if problem == "fault":
            raise AttributeError("no attribute 'cache'")
        uri = f"{config.storage.runs_uri}/{name}"
        Path(uri).mkdir(parents=True, exist_ok=True)
        if checkpoint_uri is not None:
            return Execution(None, evaluated(uri, checkpoint_uri, 0.5))
        outcome = TrainingOutcome(name, uri, f"{uri}/step_4", f"{uri}/export", "finished", 4, {"train/loss_lm": 0.5})
        (Path(uri) / "metrics.jsonl").write_text(
            '{"step": 2, "train/loss_lm": 1.0, "router/keep_ratio_layer_02": 0.5, "routes/layer_02/2x2": 1.0}\n'
            '{"step": 4, "train/loss_lm": 0.5}\n'
        )
        write_json(f"{uri}/outcome.json", {**vars(outcome)})
        write_json(f"{outcome.export_uri}/config.json", {})
        if problem == "stop":
            outcome = TrainingOutcome(**{**vars(outcome), "status": "stopped", "stop_reason": "hopeless"})
            return Execution(outcome, None, Verdict("hopeless"))
        ratio = {"dense": 1.0, "static": 0.3}.get(config.method.name, 0.6)
        return Execution(outcome, evaluated(uri, outcome.export_uri, ratio))

    return execute


def evaluated(uri: str, checkpoint_uri: str, ratio: float) -> EvaluationResult:
    evaluation = EvaluationResult(
        {"checkpoint_uri": checkpoint_uri}, "m", 10, ratio - 0.1, (0.0, 1.0),
        {"colour": FamilyScore(n=10, accuracy=ratio, ci=(0.0, 1.0))}, {"eq8": ratio, "swiglu": ratio}, 64 * ratio,
        {"colour": {"2x2": 10}}, f"{uri}/e/outcomes.parquet", f"{uri}/e/result.json",
        examples=({"question": "what ?"},),
    )  # fmt: skip
    write_json(evaluation.result_uri, evaluation.to_json())
    return evaluation


def calls_of(calls: Path) -> list[tuple[str, float | None]]:
    return [tuple(json.loads(line)) for line in calls.read_text().splitlines()]


def start(config: ExperimentConfig, execute: Execute, tracker: MemoryTracker, **more: Any) -> StudyResult:
    return run_study(config, tracker=tracker, execute=execute, **{"study_name": "s", **more})


def statuses(tracker: MemoryTracker) -> dict[str, str]:
    return {run.name: run.status for run in tracker.runs.values()}


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
    healed = start(config, pretend(calls), tracker, study_name=None, resume=True)
    assert [point.name for point in healed.points] == ["dense", "static_2x2", "dpn-00"]
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


def test_equal_trials_are_taken_over_and_an_extension_runs_what_is_new(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    tracker, calls = MemoryTracker(), tmp_path / "calls"
    first = start(config, pretend(calls), tracker)
    assert len(calls_of(calls)) == 4

    # Another study of the same recipe runs nothing, and says whose results it has.
    events: list[StudyEvent] = []
    second = start(config, pretend(calls), tracker, study_name="t", on_event=events.append)
    assert len(calls_of(calls)) == 4
    assert [point.name for point in second.points] == [point.name for point in first.points]
    assert [point.accuracy for point in second.points] == [point.accuracy for point in first.points]
    told = [event.message for event in events if event.kind == "finished"]
    assert told[0].endswith("as s/dense did")
    trials = Ledger(config.storage.runs_uri, "t").trials()
    assert {trial.reused_from for trial in trials.values()} == {f"s/{name}" for name in trials}
    assert trials["dense"].point is not None

    # Without its checkpoint a result is not taken over.
    delete_folder(f"{config.storage.runs_uri}/s-static_2x2/export")
    start(changed(config, sweep={"num_trials": 0}), pretend(calls), tracker, study_name="v")
    assert [name for name, _ in calls_of(calls)[4:]] == ["v-static_2x2"]

    # A third one, told not to, runs everything again.
    alone = changed(config, sweep={"reuse": "none", "num_trials": 1})
    start(alone, pretend(calls), tracker, study_name="u")
    assert len(calls_of(calls)) == 8

    # The second, extended: more trials, more seeds, a rival on the checkpoint of dense, which another study trained.
    more = changed(
        config,
        sweep={"num_trials": 3, "replicates": 2, "controls": ["dense", "static_2x2", {"name": "fastv", "on": "dense"}]},
    )
    events.clear()
    third = start(more, pretend(calls), tracker, study_name="t", resume=True, extend=True, on_event=events.append)
    assert [event.message for event in events if event.kind == "note"] == ["extension 1: 5 trials to run"]
    new = [name for name, _ in calls_of(calls)[8:]]
    assert sorted(new) == ["t-dpn-00-seed-1", "t-dpn-01-seed-1", "t-dpn-02", "t-dpn-02-seed-1", "t-fastv-free"]
    assert len(third.points) == 9
    [fastv] = [point for point in third.points if point.method == "fastv"]
    assert fastv.checkpoint_uri == f"{config.storage.runs_uri}/s-dense/export"
    header = Ledger(config.storage.runs_uri, "t").header()
    [extension] = header.extensions
    assert header.state == "finished"
    assert extension["number"] == 1
    assert extension["duration_s"] >= 0
    assert extension["device_hours"] > 0
    assert any(line.startswith("sweep.replicates: 1 -> 2") for line in extension["changes"])
    trials = Ledger(config.storage.runs_uri, "t").trials()
    assert {trial.extension for trial in trials.values() if trial.key in new or f"t-{trial.key}" in new} == {1}

    # Asked more questions, what is trained answers them, in a folder of its own; nothing is trained again.
    asked = changed(more, eval={"limit": 20})
    events.clear()
    start(asked, pretend(calls), tracker, study_name="t", resume=True, extend=True, on_event=events.append)
    assert not [event.message for event in events if " did" in event.message], "each has a result of its own now"
    again = [name for name, _ in calls_of(calls)[13:]]
    assert len(again) == 9
    assert "s-dense" in again, "the run that trained it"
    trials = Ledger(config.storage.runs_uri, "t").trials()
    assert all(trial.evaluation_folder.startswith("evaluation-") for trial in trials.values())
    noted = read_json(f"{config.storage.runs_uri}/trials/{trials['dense'].fingerprint}.json")
    assert (noted["study"], noted["key"]) == ("s", "dense"), "the run that trained it, not the study that asked"

    # What would not be comparable is refused, and nothing is written.
    before = Ledger(config.storage.runs_uri, "t").header()
    with pytest.raises(DpnError, match=r"not be comparable: train.lr: 0.001 -> 0.5; keep them apart with --branch"):
        start(changed(asked, train={"lr": 0.5}), pretend(calls), tracker, study_name="t", resume=True, extend=True)
    assert Ledger(config.storage.runs_uri, "t").header() == before


def test_a_study_at_its_limit_starts_nothing_more_and_goes_on_with_a_higher_one(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    tracker, calls, events = MemoryTracker(), tmp_path / "calls", list[StudyEvent]()
    short = changed(config, sweep={"limits": {"device_hours": 1e-9}, "max_concurrent_trials": 1})
    result = start(short, pretend(calls), tracker, on_event=events.append)
    assert [name for name, _ in calls_of(calls)] == ["s-dense"]
    assert "device-hours are spent" in result.meta["limit"]
    assert "3 trials are left" in events[-1].message
    assert Ledger(config.storage.runs_uri, "s").header().state == "running"
    assert Ledger(config.storage.runs_uri, "s").trial("dense").device_hours > 0
    longer = changed(config, sweep={"limits": {"device_hours": 9.0}})
    assert len(start(longer, pretend(calls), tracker, resume=True).points) == 4


def changed(config: ExperimentConfig, **sections: dict[str, Any]) -> ExperimentConfig:
    values = config.model_dump(mode="json")
    return parse_config(values | {name: {**values[name], **more} for name, more in sections.items()})
