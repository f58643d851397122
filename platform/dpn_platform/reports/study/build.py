"""build_report: one study record in, every form of its report out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import pareto_front
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.reports.dynamic.prove import proofs_of_points
from dpn_platform.reports.look.gallery import gallery_png
from dpn_platform.reports.study.claims import claims_of
from dpn_platform.reports.study.export import document_json, points_csv
from dpn_platform.reports.study.page import featured_with_routes, report_page
from dpn_platform.reports.study.picture import front_png
from dpn_platform.reports.study.record import RECORD_NAME, StudyRecord

HTML_NAME, PNG_NAME, JSON_NAME, CSV_NAME, GALLERY_NAME = (
    "report.html",
    "front.png",
    "pareto.json",
    "pareto.csv",
    "gallery.png",
)


@dataclass(frozen=True)
class ReportPaths:
    """Where the parts of a report lie; `gallery_png` is None when the study kept no examples.

    `record` is the study itself: `dpn report FOLDER` redraws everything from it.
    """

    html: Path
    png: Path
    json: Path
    csv: Path
    gallery_png: Path | None
    record: Path

    def all(self) -> list[Path]:
        """The files that exist."""
        return [path for path in (self.html, self.png, self.json, self.csv, self.gallery_png, self.record) if path]


def build_report(record: StudyRecord, out_dir: str | Path) -> ReportPaths:
    """Draw the study and write `report.html`, `front.png`, `pareto.json`, `pareto.csv`, `gallery.png`, `study.json`.

    The same record gives the same bytes (with the same plotly and matplotlib); nothing is read from elsewhere.

    Args:
        record: the study; flags `on_front` are computed here, whatever the points say.
        out_dir: made when missing; files of an older report are replaced.

    Raises:
        DpnError: two points share a name, or the folder cannot be written.
    """
    record = with_front(record)
    folder = Path(out_dir)
    gallery = gallery_png(record.examples, record.examples_point)
    html = folder / HTML_NAME
    contents: dict[Path, bytes] = {
        html: report_page(record, gallery).encode(),
        folder / PNG_NAME: front_png(record),
        folder / JSON_NAME: document_json(record, str(html)).encode(),
        folder / CSV_NAME: points_csv(record).encode(),
        folder / RECORD_NAME: (
            json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False, default=str) + "\n"
        ).encode(),
    }
    if gallery is not None:
        contents[folder / GALLERY_NAME] = gallery
    _write(folder, contents)
    if gallery is None:
        (folder / GALLERY_NAME).unlink(missing_ok=True)
    return ReportPaths(
        html=html,
        png=folder / PNG_NAME,
        json=folder / JSON_NAME,
        csv=folder / CSV_NAME,
        gallery_png=folder / GALLERY_NAME if gallery is not None else None,
        record=folder / RECORD_NAME,
    )


def study_record(record: StudyRecord, examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> StudyRecord:
    """The record with its front, its claims and proofs, and with the examples of the point that a gallery should show.

    Args:
        record: of a study that has just ended.
        examples: point name -> its samples. Shown are those of a featured point, else of the first searched one.
    """
    points, convention = record.points, record.convention
    shown = replace(record, claims=claims_of(points, convention), proofs=proofs_of_points(points, convention))
    record = with_front(shown)
    candidates = (*featured_with_routes(record), *(point for point in record.points if not point.is_control))
    chosen = next((point.name for point in candidates if examples.get(point.name)), None)
    return record if chosen is None else replace(record, examples=tuple(examples[chosen]), examples_point=chosen)


def with_front(record: StudyRecord) -> StudyRecord:
    """The record with seeds of one setting as one point, and each point's `on_front` set from all points.

    Raises:
        DpnError: two points share a name.
    """
    repeated = [name for name, count in Counter(point.name for point in record.points).items() if count > 1]
    if repeated:
        raise DpnError(f"study '{record.name}': more than one point is named '{repeated[0]}', names must differ")
    record = replace(record, points=seeds_together(record.points))
    flags = pareto_front(record.points, record.convention)
    points = (point.model_copy(update={"on_front": flag}) for point, flag in zip(record.points, flags, strict=True))
    return replace(record, points=tuple(points))


def _write(folder: Path, contents: dict[Path, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in contents.items():
            path.write_bytes(data)
    except OSError as error:
        raise DpnError(f"report folder {folder}: {error.strerror or error}") from None
