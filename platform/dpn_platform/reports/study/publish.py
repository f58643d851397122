"""Puts a finished report where the study is tracked: its files and its headline numbers in the parent run."""

from __future__ import annotations

from dpn_platform.evaluation.pareto import flops_spread, front_points, hypervolume
from dpn_platform.reports.study.build import ReportPaths
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.source import REPORT_ARTIFACTS
from dpn_platform.tracking import Tracker


def publish_report(record: StudyRecord, paths: ReportPaths, tracker: Tracker, run_id: str) -> None:
    """Log the report's files under `report/` and `front/*` metrics; repeating it replaces them.

    Args:
        record: the study the report was built from.
        paths: what `build_report` wrote.
        tracker: where the study is tracked.
        run_id: the study's parent run. Points with a `run_id` of their own get `front/is_on_front` there.
    """
    for path in paths.all():
        tracker.log_artifact(run_id, path, f"{REPORT_ARTIFACTS}/{path.name}")
    front = front_points(record.points, record.convention)
    metrics = {
        "front/hypervolume": hypervolume(record.points, convention=record.convention),
        "front/num_points": float(len(front)),
        "front/flops_ratio_spread": flops_spread(record.points, record.convention),
    }
    if front:
        metrics["front/best_accuracy"] = front[-1].accuracy
    tracker.log_metrics(run_id, metrics)
    for point in record.points:
        if point.run_id is not None:
            tracker.log_metrics(point.run_id, {"front/is_on_front": float(point in front)})
