"""Ranks of a study's points, and the words that their runs carry."""

from __future__ import annotations

import math

from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.standing import point_metrics, point_tags, ranks, standing_tags


def point(name: str, accuracy: float, ratio: float) -> Point:
    ci = (accuracy - 0.1, accuracy + 0.1)
    return Point(
        name=name,
        method="dpn",
        accuracy=accuracy,
        accuracy_ci=ci,
        flops_ratio={"swiglu": ratio},
        visual_tokens_mean=1.0,
        n=100,
    )


def test_ranks_are_fronts_one_behind_the_other() -> None:
    points = [point("a", 0.9, 1.0), point("b", 0.8, 0.5), point("c", 0.79, 0.6), point("d", 0.7, 0.7)]
    points.append(point("unmeasured", math.nan, 0.1))
    assert ranks(points, "swiglu") == {"a": 1, "b": 1, "c": 2, "d": 3}


def test_seeds_of_one_setting_stand_where_their_mean_does() -> None:
    lucky, unlucky = point("s-seed-0", 0.95, 0.5), point("s-seed-1", 0.55, 0.5)
    assert ranks([lucky, unlucky, point("b", 0.8, 0.5)], "swiglu") == {"b": 1, "s-seed-0": 2, "s-seed-1": 2}


def test_what_a_run_says_of_its_point() -> None:
    one = point("b", 0.8, 0.5)
    assert point_tags(one, "swiglu")["dpn.point.accuracy"] == "80.0% (70.0% to 90.0%, n = 100)"
    assert point_metrics(one, "swiglu")["point/flops_ratio"] == 0.5
    assert "point/flops_ratio" not in point_metrics(one, "eq8")  # not measured
    on, behind, unknown = standing_tags(1), standing_tags(2), standing_tags(None)
    assert [tags["dpn.on_front"] for tags in (on, behind, unknown)] == ["true", "false", "false"]
    assert on["mlflow.runColor"] != behind["mlflow.runColor"] == unknown["mlflow.runColor"]
