"""Studies that go on, on real Ray Tune with trials that pretend: equal trials, extensions, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.services.ray_client import init_ray
from dpn_platform.storage import delete_folder, read_json
from dpn_platform.sweeps.events import StudyEvent
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.tracking import MemoryTracker
from tests.integration.pretended_studies import calls_of, changed, pretend, pretended, start

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def cluster(services: Any) -> None:
    init_ray()


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    return pretended(tmp_path)


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
