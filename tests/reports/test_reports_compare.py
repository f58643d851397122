"""Differences against dense: Newcombe's interval, which differences are resolved, what families lose."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dpn_platform.reports.study.controls import (
    against_dense,
    cheapest_as_good_as_dense,
    dense_control,
    families_of,
    family_losses,
    is_above_guessing,
    strongest_static,
)
from dpn_platform.reports.study.difference import difference
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import differences_sentence, families_sentence, headline


def test_difference_is_newcombes_example() -> None:
    # Newcombe 1998, table II, method 10, case (a): 56/70 against 48/80 gives 0.0524 to 0.3339.
    found = difference(56 / 70, (0.6918, 0.8772), 48 / 80, (0.4904, 0.7004))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=3e-4)
    assert found.high == pytest.approx(0.3339, abs=3e-4)
    assert found.is_resolved


def test_difference_inside_the_interval_is_not_resolved() -> None:
    assert not difference(0.80, (0.78, 0.82), 0.81, (0.79, 0.83)).is_resolved
    assert not difference(0.80, (math.nan, math.nan), 0.2, (0.1, 0.3)).is_resolved


def test_against_dense_covers_every_other_measured_point(record: StudyRecord) -> None:
    changes = against_dense(record.points)
    assert set(changes) == {point.name for point in record.points} - {"dense"}
    assert not changes["dpn_00"].is_resolved
    assert changes["static_2x2"].high < 0
    assert against_dense([point for point in record.points if point.method != "dense"]) == {}


def test_cheapest_as_good_as_dense_lies_inside_the_interval(record: StudyRecord) -> None:
    found = cheapest_as_good_as_dense(record.points)
    assert found is not None
    assert found.name == "dpn_00"


def test_hard_families_lose_more_from_static_pooling(record: StudyRecord) -> None:
    dense, static = dense_control(record.points), strongest_static(record.points)
    assert dense is not None
    assert static is not None
    assert static.name == "static_2x2"
    losses = family_losses(dense, static)
    assert [item.family for item in losses] == ["reading", "counting", "relation", "colour", "existence"]
    assert losses[0].loss.low > losses[-1].loss.high
    assert families_of(record.points)[0] == "reading"


def test_is_above_guessing_needs_the_whole_interval(record: StudyRecord) -> None:
    score = record.points[0].per_family["reading"]
    assert is_above_guessing(score) is True
    assert is_above_guessing(score.model_copy(update={"majority_rate": score.ci[0]})) is False
    assert is_above_guessing(score.model_copy(update={"majority_rate": None})) is None


def test_sentences_claim_only_what_is_resolved(record: StudyRecord) -> None:
    assert "not measurably worse than the dense control" in headline(record)
    text = differences_sentence(record)
    inside, below = text.split("Measurably below dense")
    assert "dpn_00" in inside
    assert "static_2x2" in below
    assert "reading loses" in (families_sentence(record) or "")


def test_sentences_without_dense_or_points_claim_nothing(record: StudyRecord) -> None:
    undense = replace(record, points=tuple(point for point in record.points if point.method != "dense"))
    assert "nothing more is claimed" in headline(undense)
    assert "no dense control" in differences_sentence(undense)
    assert families_sentence(undense) is None
    assert headline(replace(record, points=())).startswith("No point")
