"""Studies of trials that only pretend to train, for real Ray Tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, Quarantine
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.storage import write_json
from dpn_platform.sweeps.stopping import Verdict
from dpn_platform.sweeps.study import StudyResult, run_study
from dpn_platform.sweeps.trainable import Assignment, Execute, Execution
from dpn_platform.tracking import MemoryTracker
from dpn_platform.training.run_folder import TrainingOutcome


def pretended(tmp_path: Path) -> ExperimentConfig:
    """A study over a set that has no rows."""
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
    """What such a trial scored, in storage."""
    evaluation = EvaluationResult(
        {"checkpoint_uri": checkpoint_uri}, "m", 10, ratio - 0.1, (0.0, 1.0),
        {"colour": FamilyScore(n=10, accuracy=ratio, ci=(0.0, 1.0))}, {"eq8": ratio, "swiglu": ratio}, 64 * ratio,
        {"colour": {"2x2": 10}}, f"{uri}/e/outcomes.parquet", f"{uri}/e/result.json",
        examples=({"question": "what ?"},),
    )  # fmt: skip
    write_json(evaluation.result_uri, evaluation.to_json())
    return evaluation


def calls_of(calls: Path) -> list[tuple[str, float | None]]:
    """(run, reference loss) of every call."""
    return [tuple(json.loads(line)) for line in calls.read_text().splitlines()]


def start(config: ExperimentConfig, execute: Execute, tracker: MemoryTracker, **more: Any) -> StudyResult:
    """Run the study `s`, or as `more` says."""
    return run_study(config, tracker=tracker, execute=execute, **{"study_name": "s", **more})


def statuses(tracker: MemoryTracker) -> dict[str, str]:
    """Of every run, by its name."""
    return {run.name: run.status for run in tracker.runs.values()}


def changed(config: ExperimentConfig, **sections: dict[str, Any]) -> ExperimentConfig:
    """The config with other keys in these sections."""
    values = config.model_dump(mode="json")
    return parse_config(values | {name: {**values[name], **more} for name, more in sections.items()})
