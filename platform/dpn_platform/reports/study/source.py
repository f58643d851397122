"""Where a report's study comes from: a folder or URI that holds `study.json`, or MLflow by the study's name."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.front_statistics import statistics_of_points
from dpn_platform.evaluation.points import POINT_ARTIFACT, Point
from dpn_platform.evaluation.trial_points import point_of_trial
from dpn_platform.reports.dynamic.prove import proofs_of_points
from dpn_platform.reports.study.claims import claims_of
from dpn_platform.reports.study.record import RECORD_NAME, StudyRecord, parse_record
from dpn_platform.storage import exists, list_files, read_bytes, read_json, together

REPORT_ARTIFACTS = "report"
_UNFINISHED = {"state": "unfinished: rebuilt from the trials' points"}


def is_place(what: str) -> bool:
    """Whether `what` is a path or URI rather than the name of a study in MLflow."""
    return "://" in what or what.endswith(".json") or Path(what).exists()


def read_study(place: str) -> StudyRecord:
    """The study record in a `.json` file, a report's folder, or a study's folder in storage; paths and URIs alike.

    A study's folder, `<runs>/studies/<study>`, keeps its report in `report/` once it has ended. Before that, the points
    are those of the trials that its ledger calls finished. Neither needs MLflow.

    Raises:
        DpnError: nothing is there, it is no study record, or nothing was evaluated in it yet.
    """
    place = place.rstrip("/")
    if place.endswith(".json"):
        return parse_record(read_bytes(place), place)
    for uri in (f"{place}/{RECORD_NAME}", f"{place}/{REPORT_ARTIFACTS}/{RECORD_NAME}"):
        if exists(uri):
            return parse_record(read_bytes(uri), uri)
    points = points_of_trials(place)
    if not points:
        raise DpnError(f"{place}: no {RECORD_NAME} here, in {REPORT_ARTIFACTS}/, and no finished trial in trials/")
    record = StudyRecord(place.rpartition("/")[2], points, meta=_UNFINISHED)
    proofs, statistics = proofs_of_points(points, record.convention), statistics_of_points(points, record.convention)
    return replace(record, claims=claims_of(points, record.convention), proofs=proofs, statistics=statistics)


def is_study(place: str) -> bool:
    """Whether a path or URI holds a study: a record, or the trials of a ledger."""
    place = place.rstrip("/")
    records = (f"{place}/{RECORD_NAME}", f"{place}/{REPORT_ARTIFACTS}/{RECORD_NAME}")
    return place.endswith(".json") or any(map(exists, records)) or bool(list_files(f"{place}/trials", ".json"))


def points_of_trials(place: str) -> tuple[Point, ...]:
    """The points of a study's finished trials, controls first, each seed by itself; none without a ledger there."""
    found = together(_point_at, list_files(f"{place.rstrip('/')}/trials", ".json"))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: (not one.is_control, one.name)))


def _point_at(uri: str) -> Point | None:
    return point_of_trial(read_json(uri), uri)


def study_from_mlflow(name: str, tracking_uri: str | None = None) -> StudyRecord:
    """The study of this name: its stored record, else what its trials have stored so far.

    A finished study keeps `report/study.json` in its parent run. One that is still running, or was killed, has a
    `point.json` in each child run that was evaluated.

    Args:
        name: of the study, its run id, or an MLflow experiment (then its latest study).
        tracking_uri: default `MLFLOW_TRACKING_URI`.

    Raises:
        DpnError: no such study, or nothing was evaluated in it yet.
    """
    from dpn_platform.tracking.studies import StudyReader

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise DpnError(
            f"study '{name}': no MLflow address, set MLFLOW_TRACKING_URI or start the services with `dpn up`"
        )
    reader = StudyReader(uri)
    study = reader.find(name)
    stored = reader.text(study.run_id, f"{REPORT_ARTIFACTS}/{RECORD_NAME}")
    if stored is not None:
        return parse_record(stored, f"{study.name}/{RECORD_NAME}")
    texts = [reader.text(child, POINT_ARTIFACT) for child in reader.child_ids(study.run_id)]
    points = [Point.from_json(json.loads(text)) for text in texts if text is not None]
    if not points:
        raise DpnError(f"study '{study.name}' has no evaluated point yet: see {study.url}")
    return StudyRecord(study.name, tuple(points), study.url, _UNFINISHED)
