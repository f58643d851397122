"""The report of a study that has ended: built, kept in storage, and told to the tracker."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dpn_platform.config.aliases import registry_alias
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import without_seed
from dpn_platform.reports.study.build import ReportPaths, build_report, study_record
from dpn_platform.reports.study.publish import publish_report
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.storage import upload_folder
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.decision import current_aliases
from dpn_platform.sweeps.promotion.promote import read_decisions
from dpn_platform.sweeps.study import StudyResult
from dpn_platform.tracking import open_tracker

_OUTPUTS = "outputs"


class StudyReport(NamedTuple):
    """What was written; `chart` is the tracker's own, empty where it has none."""

    record: StudyRecord
    paths: ReportPaths
    chart: str


def report_study(config: ExperimentConfig, result: StudyResult) -> StudyReport:
    """Build the report in `outputs/<study>`, and keep it in storage and where the study is tracked."""
    assert config.sweep is not None
    record = study_record(
        StudyRecord(
            name=result.study_name,
            points=result.points,
            mlflow_uri=result.mlflow_uri,
            meta=result.meta,
            convention=config.sweep.flops_convention,
        ),
        result.examples,
    )
    folder = Path(_OUTPUTS).resolve() / result.study_name
    paths = build_report(record, folder)
    tracker = open_tracker(config.tracking, config.storage.runs_uri)
    held = tracker_aliases(Ledger(config.storage.runs_uri, result.study_name))
    chart = publish_report(record, paths, tracker, result.run_id, held)
    upload_folder(folder, f"{result.ledger_uri}/report")
    return StudyReport(record, paths, chart)


def tracker_aliases(ledger: Ledger) -> dict[str, str]:
    """Alias in the tracker's letters -> point, of what was promoted; seeds of one setting are one version there."""
    held = current_aliases(read_decisions(ledger))
    return {registry_alias(alias): without_seed(point) for alias, point in held.items()}
