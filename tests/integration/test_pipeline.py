"""Three nights of a pipeline on real Ray Tune, with trials that pretend to train: the second is killed and goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, Quarantine
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.pipelines.run import run_slot
from dpn_platform.pipelines.slots import Slots
from dpn_platform.services.ray_client import init_ray
from dpn_platform.storage import read_bytes, read_json, write_json
from dpn_platform.sweeps.events import StudyEvent
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.promote import read_decisions
from dpn_platform.sweeps.trainable import Assignment, Execute, Execution
from dpn_platform.training.run_folder import TrainingOutcome
from tests.evaluation.outcome_tables import answers, write_point

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("cluster")]

HARDNESS = np.random.default_rng(3).normal(size=2000)
#: accuracy of the trials by their place in the search; the fifth is truly better
ACCURACY = {
    "dense": 0.90,
    "dpn-00": 0.80,
    "dpn-01": 0.80,
    "dpn-02": 0.80,
    "dpn-03": 0.80,
    "dpn-04": 0.86,
    "dpn-05": 0.80,
}


@pytest.fixture(scope="module")
def cluster(services: Any) -> None:
    init_ray()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    monkeypatch.chdir(tmp_path)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="m",
        source="",
        splits={},
        quarantine=Quarantine(),
        fingerprint="0123456789ab",
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_bytes(manifest.to_bytes())
    return parse_config(
        {
            "name": "nights",
            "data": {"uri": str(tmp_path / "data")},
            "storage": {"runs_uri": str(tmp_path / "runs")},
            "tracking": {"backend": "jsonl"},
            "train": {"steps": 4},
            "sweep": {"controls": ["dense"]},
            "pipeline": {"trials": 2, "aliases": ["champion", "budget-0.60"], "device_hours": 9},
        }
    )


def pretend(calls: Path) -> Execute:
    """Leaves a run and an evaluation with a real outcome table; notes its call in a file."""

    def execute(assignment: Assignment) -> Execution:
        config, name, output_uri = assignment.config, assignment.name, assignment.output_uri
        with calls.open("a") as file:
            file.write(f"{name}\n")
        key = name.split("-", 2)[2]
        uri = f"{config.storage.runs_uri}/{name}"
        folder = Path(str(output_uri).removeprefix("file://"))
        folder.mkdir(parents=True)
        cost = 1.0 if key == "dense" else 0.5
        point = write_point(folder, "outcomes", answers(ACCURACY[key], HARDNESS, list(ACCURACY).index(key)), cost)
        outcome = TrainingOutcome(name, uri, f"{uri}/step_4", f"{uri}/export", "finished", 4, {"train/loss_lm": 0.5})
        (Path(uri) / "metrics.jsonl").write_text('{"step": 4, "train/loss_lm": 0.5}\n')
        write_json(f"{uri}/outcome.json", vars(outcome))
        write_json(f"{outcome.export_uri}/config.json", {})
        result = EvaluationResult(
            {"checkpoint_uri": outcome.export_uri}, "m", point.n, point.accuracy, (0.0, 1.0), {}, point.flops_ratio,
            64 * cost, {}, str(point.outcomes_uri), f"{folder}/result.json",
        )  # fmt: skip
        write_json(result.result_uri, result.to_json())
        return Execution(outcome, result)

    return execute


def at(day: int) -> datetime:
    return datetime(2026, 11, day, 2, tzinfo=UTC)


def test_three_nights_with_a_kill_in_the_second(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    study = "nights-01234567"
    ledger = Ledger(config.storage.runs_uri, study)

    first = run_slot(config, "2026-11-23", execute=pretend(calls), now=lambda: at(23))
    assert first.ended
    assert [name for name in calls.read_text().split()] == [f"{study}-{key}" for key in ("dense", "dpn-00", "dpn-01")]
    assert {one.alias: one.action for one in read_decisions(ledger)} == {"champion": "first", "budget-0.60": "first"}
    [holder] = {one.holder for one in read_decisions(ledger) if one.alias == "budget-0.60"}
    assert holder in ("dpn-00", "dpn-01")

    # The second is killed once its first trial has ended, and is a day late when it goes on.
    def kill(event: StudyEvent) -> None:
        if event.kind == "finished" and event.trial == "dpn-02":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_slot(config, "2026-11-24", execute=pretend(calls), on_event=kill, now=lambda: at(24))
    slots = Slots(config.storage.runs_uri, "nights")
    assert [list(slot.stages) for slot in slots.all()] == [
        ["refresh", "plan", "study", "promote", "tell"],
        ["refresh", "plan"],
    ]
    second = run_slot(config, "2026-11-24", execute=pretend(calls), now=lambda: at(25))
    assert second.stages["study"]["points"] == 5
    assert second.stages["study"]["new"] == ["dpn-02", "dpn-03"], "whichever attempt they ended in"
    assert len(calls.read_text().split()) == 5, "the trial that had ended ran once"
    # Again, and nothing happens.
    assert run_slot(config, "2026-11-24", execute=pretend(calls), now=lambda: at(25)) == second

    # The third, after a night that nobody ran, finds the better point, and tells somebody who is not there.
    monkeypatch.setenv("DPN_NIGHTS_WEBHOOK", "http://127.0.0.1:9/nobody")
    monkeypatch.setattr("dpn_platform.pipelines.webhook._FIRST_PAUSE_S", 0.0)
    told = parse_config(
        config.model_dump(mode="json")
        | {"pipeline": {**config.model_dump(mode="json")["pipeline"], "webhook_variable": "DPN_NIGHTS_WEBHOOK"}}
    )
    third = run_slot(told, "2026-11-26", execute=pretend(calls), now=lambda: at(26))
    assert third.remarks == ("missed: 2026-11-25",)
    assert third.stages["study"]["new"] == ["dpn-04", "dpn-05"]
    assert "not told" in third.stages["tell"]["problem"]
    assert "nobody" not in json.dumps(third.stages)
    decisions = [one for one in read_decisions(ledger) if one.alias == "budget-0.60"]
    assert [one.action for one in decisions] == ["first", "kept", "moved"]
    assert decisions[-1].holder == "dpn-04"
    note = read_bytes(third.stages["tell"]["note"]).decode()
    assert "budget-0.60: moved, dpn-04" in note
    assert "missed: 2026-11-25" in note

    # What is left behind: one ledger with its extensions, one report, one run per trial.
    header = ledger.header()
    assert [one["number"] for one in header.extensions] == [1, 2]
    assert header.state == "finished"
    assert {trial.extension for trial in ledger.trials().values()} == {0, 1, 2}
    record = read_json(f"{ledger.uri}/report/study.json")
    assert len(record["points"]) == 7
    history = record["statistics"]["history"]
    assert [one["extension"] for one in history] == [0, 1, 2]
    assert history[2]["volume"]["value"] > history[0]["volume"]["value"]
    assert len(list((tmp_path / "runs").glob(f"{study}-*"))) == 7


def write_raw(folder: Path, num_train: int) -> None:
    """A raw set in LLaVA's layout, without pictures."""
    folder.mkdir(exist_ok=True)
    for split, count in (("train", num_train), ("test", 4)):
        turns = [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red"}]
        records = [{"id": f"{split}-{number}", "conversations": turns} for number in range(count)]
        (folder / f"{split}.json").write_text(json.dumps(records))


def test_new_annotations_are_ingested_and_make_a_study_of_their_own(config: ExperimentConfig, tmp_path: Path) -> None:
    values = config.model_dump(mode="json")
    values["data"]["uri"] = str(tmp_path / "published")
    values["pipeline"] |= {"trials": 0, "aliases": [], "refresh": {"source": str(tmp_path / "raw")}}
    nightly = parse_config(values | {"sweep": {"num_trials": 0, "controls": ["dense"]}})
    (tmp_path / "published").mkdir()
    studies, new = [], []
    for day, num_train in ((23, 6), (24, 6), (25, 8)):
        write_raw(tmp_path / "raw", num_train)
        slot = run_slot(nightly, f"2026-11-{day}", execute=pretend(tmp_path / "calls"), now=lambda: at(25))
        studies.append(slot.stages["plan"]["study"])
        new.append(slot.stages["refresh"]["is_new"])
    assert new == [True, False, True]
    assert studies[0] == studies[1] != studies[2]
    # Another set is never put in the place of this one.
    elsewhere = {"pipeline": {"refresh": {"source": str(tmp_path / "elsewhere")}}}
    other = parse_config(nightly.model_dump(mode="json") | elsewhere)
    write_raw(tmp_path / "elsewhere", 6)
    with pytest.raises(DpnError, match="was made of .*raw, pipeline.refresh.source is .*elsewhere"):
        run_slot(other, "2026-11-26", execute=pretend(tmp_path / "calls"))
