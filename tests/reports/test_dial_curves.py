"""Points of one checkpoint's dial: one curve, no name of their own, and no control."""

from __future__ import annotations

from dataclasses import replace

from dpn_platform.evaluation.points import dial_curves
from dpn_platform.reports.study.figure import front_figure
from dpn_platform.reports.study.picture import _labels, front_png
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.sections import points_table
from tests.reports.conftest import make_point


def with_dial(record: StudyRecord) -> StudyRecord:
    own = make_point("dpn-dynamic", "dpn", 0.55, waste=0.1, is_control=True)
    turned = [
        make_point(
            f"dpn-dynamic-dial-{ratio}",
            "dpn",
            ratio,
            waste=0.1,
            is_control=True,
            on="dpn-dynamic",
            params={"dial": ratio},
        )
        for ratio in (0.48, 0.7)
    ]
    free = make_point("fastv-free", "fastv", 0.6, is_control=True, on="dense")
    return replace(record, points=(*record.points, own, *turned, free))


def test_a_checkpoint_and_its_dial_are_one_curve(record: StudyRecord) -> None:
    assert dial_curves(record.points) == []
    [curve] = dial_curves(with_dial(record).points)
    assert [point.name for point in curve] == ["dpn-dynamic", "dpn-dynamic-dial-0.48", "dpn-dynamic-dial-0.7"]


def test_a_curve_is_drawn_and_its_points_are_not_named(record: StudyRecord) -> None:
    study = with_dial(record)
    lines = [trace for trace in front_figure(study).data if trace.mode == "lines" and trace.name is None]
    assert [list(line.x) for line in lines] == [[0.48, 0.55, 0.7]]
    named = [text for _, _, text, _ in _labels(study)]
    assert "dpn-dynamic" in named
    assert not any("dial" in text for text in named)
    assert front_png(study).startswith(b"\x89PNG")


def test_what_is_held_against_controls_is_none(record: StudyRecord) -> None:
    rows = points_table(with_dial(record)).split("<tr")
    chips = {row for row in rows if 'class="chip">control' in row}
    assert any("dense" in row for row in chips)
    assert not any("dpn-dynamic" in row or "fastv-free" in row for row in chips)
