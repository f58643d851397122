"""Seeds of one setting are one point; a study of many methods is drawn by kind; what mixtures of controls reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpn_platform.evaluation.pareto import upper_hull
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.reports.look.labels import seeds_text
from dpn_platform.reports.look.methods import kinds_of, styles_of
from dpn_platform.reports.study.front import with_front
from dpn_platform.reports.study.page import report_page
from dpn_platform.reports.study.picture import front_png
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.table import front_table
from tests.reports.conftest import make_point


def test_seeds_are_one_point_with_their_spread() -> None:
    members = [
        make_point(f"drop-seed-{seed}", "random_drop", 0.5, 1 + seed, params={"keep": 0.5, "seed": seed})
        for seed in range(3)
    ]
    other = make_point("dense", "dense", 1.0)
    together, alone = seeds_together([*members, other])
    assert (together.name, together.params, alone) == ("drop", {"keep": 0.5}, other)
    assert together.accuracy == pytest.approx(sum(one.accuracy for one in members) / 3)
    assert together.accuracy_ci[0] == pytest.approx(sum(one.accuracy_ci[0] for one in members) / 3)
    family = together.per_family["reading"]
    assert family.accuracy == pytest.approx(sum(one.per_family["reading"].accuracy for one in members) / 3)
    assert family.n == members[0].per_family["reading"].n
    low, high = (100 * pick(one.accuracy for one in members) for pick in (min, max))
    assert seeds_text(together) == f", 3 seeds {low:.1f}–{high:.1f}"
    assert seeds_text(alone) == ""
    assert seeds_together([together]) == (together,)


def many_methods() -> StudyRecord:
    """Ten methods; one of them also without training."""
    names = ("dense", "static", "random_drop", "uniform_grid", "fastv", "pyramiddrop", "sparsevlm", "m3", "mqt")
    points = [
        make_point(f"{name}-{cost}", name, cost, is_control=True, on="dense" if name == "fastv" else None)
        for name in names
        for cost in ((1.0,) if name == "dense" else (0.3, 0.4, 0.5, 0.6, 0.7))
    ]
    free = make_point("pyramiddrop-free", "pyramiddrop", 0.5, is_control=True, on="dense")
    return with_front(StudyRecord("many", (*points, free, make_point("dpn-00", "dpn", 0.4, 0.5))))


def test_many_methods_are_drawn_by_kind() -> None:
    record = many_methods()
    kinds = kinds_of(record.points)
    assert kinds["dpn-00"] == "dpn"
    assert kinds["uniform_grid-0.3"] == kinds["static-0.5"] == "controls"
    assert kinds["pyramiddrop-0.5"] == kinds["m3-0.3"] == "trained rivals"
    assert kinds["pyramiddrop-free"] == kinds["fastv-0.3"] == "rivals without training"
    styles = styles_of(record.points)
    assert list(styles)[:3] == ["dpn", "dense", "controls"]
    assert set(list(styles)[3:]) == {"trained rivals", "rivals without training"}
    assert len({(style.colour, style.marker) for style in styles.values()}) == 5
    few = replace(record, points=tuple(point for point in record.points if point.method in ("dpn", "dense", "fastv")))
    assert list(styles_of(few.points)) == ["dpn", "dense", "fastv"]


def test_a_large_study_is_told_in_a_short_table_and_drawn_whole() -> None:
    record = many_methods()
    table = front_table(record)
    assert table.row_count < len(record.points)
    assert f"{len(record.points)} points in all; those that are not shown are in the report" in str(table.caption)
    assert report_page(record, None).count("<tr") > len(record.points)
    assert front_png(record).startswith(b"\x89PNG")


def test_the_hull_of_controls_is_concave_and_rises() -> None:
    points = [make_point(str(cost), "static", cost) for cost in (0.2, 0.5, 0.6, 1.0)]
    heights = dict(zip((0.2, 0.5, 0.6, 1.0), (0.2, 0.8, 0.82, 1.0), strict=True))
    points = [point.model_copy(update={"accuracy": heights[float(point.name)]}) for point in points]
    assert upper_hull(points) == [(0.2, 0.2), (0.5, 0.8), (1.0, 1.0)]
    assert upper_hull([]) == []
