"""Point: strict JSON there and back, NaN as null."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from dpn_platform.evaluation.points import Point
from dpn_platform.reports.study.record import StudyRecord


def test_point_json_round_trip(record: StudyRecord) -> None:
    for point in record.points:
        text = json.dumps(point.to_json(), allow_nan=False)
        assert Point.from_json(json.loads(text)) == point


def test_point_not_measured_is_null_in_json(record: StudyRecord) -> None:
    failed = record.points[0].model_copy(update={"accuracy": math.nan, "accuracy_ci": (math.nan, math.nan)})
    document = failed.to_json()
    assert document["accuracy"] is None
    assert document["accuracy_ci"] == [None, None]
    back = Point.from_json(document)
    assert math.isnan(back.accuracy)
    assert math.isnan(back.accuracy_ci[0])


def test_point_missing_field_is_refused(record: StudyRecord) -> None:
    document = record.points[0].to_json()
    del document["accuracy"]
    with pytest.raises(ValidationError, match="accuracy"):
        Point.from_json(document)


def test_points_of_earlier_versions_are_read(record: StudyRecord) -> None:
    document = record.points[0].to_json()
    ratios = document.pop("flops_ratio")
    old = document | {f"flops_ratio_{name}": value for name, value in ratios.items()} | {"predictions_uri": "s3://a"}
    assert Point.from_json(old) == record.points[0].model_copy(update={"outcomes_uri": "s3://a"})
