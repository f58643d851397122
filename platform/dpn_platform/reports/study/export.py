"""The study for machines: the JSON document that `dpn sweep --json` prints, and a CSV of the points."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from dpn_platform.evaluation.pareto import (
    REFERENCE,
    dominated_by,
    flops_spread,
    front_points,
    hypervolume,
    knee,
    pareto_front,
)
from dpn_platform.reports.dynamic.export import proof_document
from dpn_platform.reports.study.controls import (
    against_dense,
    dense_control,
    families_of,
    family_losses,
    is_above_guessing,
    strongest_static,
)
from dpn_platform.reports.study.record import StudyRecord

#: named beside a dominated point; all of them, of every point, would be the square of a large study
_MOST_WINNERS = 20


def study_document(record: StudyRecord, report_path: str | None = None) -> dict[str, Any]:
    """The study as one JSON-ready document (no NaN: what was not measured is None).

    Args:
        record: the study.
        report_path: where the HTML report lies.
    """
    middle = knee(record.points, record.convention)
    return {
        "study": record.name,
        "mlflow_uri": record.mlflow_uri,
        "report": report_path,
        "flops_convention": record.convention,
        "points": _points(record),
        "front": [point.name for point in front_points(record.points, record.convention)],
        "knee": middle.name if middle is not None else None,
        "flops_ratio_spread": flops_spread(record.points, record.convention),
        "hypervolume": hypervolume(record.points, convention=record.convention),
        "hypervolume_reference": {"accuracy": REFERENCE.accuracy, "flops_ratio": REFERENCE.flops_ratio},
        "statistics": None if record.statistics is None else record.statistics.model_dump(mode="json"),
        "claims": [claim.to_json() for claim in record.claims],
        "proofs": [proof_document(proof) for proof in record.proofs],
        "family_losses": _family_losses(record),
        "meta": dict(record.meta),
    }


def document_json(record: StudyRecord, report_path: str | None = None) -> str:
    """`study_document` as strict JSON text."""
    return (
        json.dumps(study_document(record, report_path), indent=2, ensure_ascii=False, allow_nan=False, default=str)
        + "\n"
    )


def _points(record: StudyRecord) -> list[dict[str, Any]]:
    flags = pareto_front(record.points, record.convention)
    winners = dominated_by(record.points, record.convention, _MOST_WINNERS)
    changes = against_dense(record.points)
    shares = {} if record.statistics is None else record.statistics.membership
    rows = []
    for point, on_front, names in zip(record.points, flags, winners, strict=True):
        change = changes.get(point.name)
        extra = {
            "on_front": on_front,
            "front_share": shares.get(point.name),
            "dominated_by": names,
            "against_dense": change.to_json() if change is not None else None,
            "families_above_guessing": {
                family: is_above_guessing(score) for family, score in sorted(point.per_family.items())
            },
        }
        ratios = {f"flops_ratio_{name}": value for name, value in point.to_json()["flops_ratio"].items()}
        rows.append(point.to_json() | ratios | extra)
    return rows


def _family_losses(record: StudyRecord) -> dict[str, Any] | None:
    dense, static = dense_control(record.points), strongest_static(record.points)
    if dense is None or static is None:
        return None
    losses = [
        {"family": item.family, "n": item.n, "dense": item.dense, "compressed": item.compressed}
        | {"loss": item.loss.value, "ci": [item.loss.low, item.loss.high], "resolved": item.loss.is_resolved}
        for item in family_losses(dense, static)
    ]
    return {"dense": dense.name, "compressed": static.name, "families": losses}


def points_csv(record: StudyRecord) -> str:
    """One row per point; parameters as JSON in one column, accuracy of each family in its own."""
    families = families_of(record.points)
    head = ["name", "method", "is_control", "on_front", "accuracy", "accuracy_low", "accuracy_high", "n"]
    head += ["flops_ratio_eq8", "flops_ratio_swiglu", "flops_ratio_executed", "visual_tokens_mean", "params"]
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*head, *(f"accuracy_{family}" for family in families)])
    flags = pareto_front(record.points, record.convention)
    for point, on_front in zip(record.points, flags, strict=True):
        plain = point.to_json()
        scores = (plain["per_family"].get(family) for family in families)
        writer.writerow(
            [plain["name"], plain["method"], plain["is_control"], on_front, plain["accuracy"], *plain["accuracy_ci"]]
            + [plain["n"], *(plain["flops_ratio"].get(name) for name in ("eq8", "swiglu", "executed"))]
            + [plain["visual_tokens_mean"]]
            + [json.dumps(plain["params"], sort_keys=True)]
            + ["" if score is None else score["accuracy"] for score in scores]
        )
    return target.getvalue()
