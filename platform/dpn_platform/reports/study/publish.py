"""Puts a finished report where the study is tracked: description, files, headline numbers, models of the front."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from dpn_platform.evaluation.pareto import best_within, flops_spread, front_points, hypervolume
from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.standing import view_of_study
from dpn_platform.reports.study.build import HTML_NAME, ReportPaths
from dpn_platform.reports.study.front_models import BUDGETS, register_front
from dpn_platform.reports.study.note import study_note
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.source import REPORT_ARTIFACTS
from dpn_platform.storage import list_sizes, open_uri, read_bytes
from dpn_platform.tracking import Tracker

OUTCOMES_FOLDER = "outcomes"
#: for the description: MLflow's page shows a picture in its own size, however narrow the page
SMALL_PNG_NAME, _SMALL_PX = "front-small.png", 720
#: of all tables of a front together; larger ones stay where they are, and the list says where
MOST_BYTES = 16 << 20


def publish_report(
    record: StudyRecord, paths: ReportPaths, tracker: Tracker, run_id: str, held: Mapping[str, str] | None = None
) -> str:
    """Fill the study's run; repeating it replaces what is there and leaves nothing twice.

    Args:
        record: the study the report was built from.
        paths: what `build_report` wrote; outcome tables of the front are put beside it.
        tracker: where the study is tracked.
        run_id: the study's parent run.
        held: alias -> point, of aliases that move by promotion alone.

    Returns:
        Address of the view that draws accuracy against cost; empty where the tracker has none.
    """
    for path in (*paths.all(), _small(paths.png)):
        tracker.log_artifact(run_id, path, f"{REPORT_ARTIFACTS}/{path.name}")
    _log_outcomes(front_points(record.points, record.convention), paths.html.parent, tracker, run_id)
    # The number of the extension, so that the curve shows what each has added.
    tracker.log_metrics(run_id, front_metrics(record), len(record.meta.get("extensions") or ()))
    register_front(record, tracker, run_id, held or {})
    chart = tracker.show(view_of_study(record.name, record.convention))
    picture, report = f"{REPORT_ARTIFACTS}/{SMALL_PNG_NAME}", f"{REPORT_ARTIFACTS}/{HTML_NAME}"
    tracker.describe(run_id, note=study_note(record, picture, report, chart))
    return chart


def front_metrics(record: StudyRecord) -> dict[str, float]:
    """The headline numbers of a front; accuracies are fractions."""
    points, convention = record.points, record.convention
    front = front_points(points, convention)
    metrics = {
        "front/hypervolume": hypervolume(points, convention=convention),
        "front/size": float(len(front)),
        "front/flops_spread": flops_spread(points, convention),
    }
    if front:
        metrics["front/best_accuracy"] = front[-1].accuracy
    for budget in BUDGETS:
        if (best := best_within(front, budget, convention)) is not None:
            metrics[f"front/accuracy_at_{budget:.2f}"] = best.accuracy
    return metrics


def _small(png: Path) -> Path:
    small = png.with_name(SMALL_PNG_NAME)
    with Image.open(png) as picture:
        picture.convert("RGB").resize((_SMALL_PX, round(picture.height * _SMALL_PX / picture.width))).save(small)
    return small


def _log_outcomes(front: Sequence[Point], folder: Path, tracker: Tracker, run_id: str) -> None:
    """What each point of the front answered: a list of the tables, and the tables where they are small."""
    sizes = {point.name: _size(str(point.outcomes_uri)) for point in front if point.outcomes_uri is not None}
    if not sizes:
        return
    is_small = sum(sizes.values()) <= MOST_BYTES
    listed = [
        {"point": point.name, "uri": point.outcomes_uri, "bytes": sizes[point.name], "is_here": is_small}
        for point in front
        if point.name in sizes
    ]
    tracker.log_artifact(run_id, json.dumps(listed, indent=2, ensure_ascii=False), f"{OUTCOMES_FOLDER}/outcomes.json")
    if not is_small:
        return
    target = folder / OUTCOMES_FOLDER  # kept: while the tracker is away they wait there
    target.mkdir(parents=True, exist_ok=True)
    for point in front:
        if sizes.get(point.name):
            file = target / f"{point.name}.parquet"
            file.write_bytes(read_bytes(str(point.outcomes_uri)))
            tracker.log_artifact(run_id, file, f"{OUTCOMES_FOLDER}/{file.name}")


def _size(uri: str) -> int:
    """Bytes of a table; 0 where it is gone."""
    place = open_uri(uri).uri
    return list_sizes(place.rpartition("/")[0], recursive=False).get(place, 0)
