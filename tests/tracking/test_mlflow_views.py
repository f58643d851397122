"""A view as MLflow's UI keeps it: found by address and in the experiment's description, never over people's words."""

from __future__ import annotations

import json

from dpn_platform.tracking.mlflow_views import tags_of_experiment, view_address
from dpn_platform.tracking.records import View

CHART = View("s", "s: accuracy", ("dpn.study", "s"), ("x", "y"), ("dpn.rank",), across="x", up="y")
TABLE = View("studies", "all studies", ("dpn.kind", "study"), ("front/size",), is_ascending=False)


def kept(*views: View) -> dict[str, str]:
    tags: dict[str, str] = {}
    for now_ms, view in enumerate(views, 1):
        tags |= tags_of_experiment(view, tags, "7", now_ms)
    return tags


def test_a_chart_is_drawn_and_a_table_sorted() -> None:
    tags = kept(CHART, TABLE)
    chart = json.loads(json.loads(tags["mlflow.sharedViewState.dpn-chart-s"])["state"])
    assert chart["searchFilter"] == "tags.`dpn.study` = 's'"
    assert chart["selectedColumns"] == ["metrics.`x`", "metrics.`y`", "tags.`dpn.rank`"]
    [drawn] = chart["compareRunCharts"]
    assert (drawn["type"], drawn["xaxis"]["key"], drawn["yaxis"]["key"]) == ("SCATTER", "x", "y")
    assert drawn["metricSectionId"] in {section["uuid"] for section in chart["compareRunSections"]}
    table = json.loads(json.loads(tags["mlflow.sharedViewState.dpn-table-studies"])["state"])
    assert (table["orderByKey"], table["orderByAsc"]) == ("metrics.`front/size`", False)
    assert table["compareRunCharts"] is None


def test_the_description_links_every_view_the_newest_first() -> None:
    other = View("t", "t: accuracy", ("dpn.study", "t"), ("x",), across="x", up="y")
    note = kept(CHART, TABLE, other)["mlflow.note.content"]
    assert [note.index(f"[{view.title}](") for view in (TABLE, other, CHART)] == sorted(
        note.index(f"[{view.title}](") for view in (TABLE, other, CHART)
    )
    assert f"({view_address('#/experiments/7', CHART)})" in note


def test_a_view_that_is_there_changes_nothing() -> None:
    tags = kept(CHART)
    assert tags_of_experiment(CHART, tags, "7", 99) == {}
    changed = {**tags, "mlflow.sharedViewState.dpn-chart-s": json.dumps({"name": "mine", "createdAt": 1, "state": "x"})}
    assert "mlflow.sharedViewState.dpn-chart-s" not in tags_of_experiment(CHART, changed, "7", 99)


def test_what_people_wrote_stays() -> None:
    mine = {"mlflow.note.content": "our experiment", "mlflow.experimentKind": "regression"}
    mine["mlflow.sharedViewState.abc"] = "deflate;xyz"  # a view that somebody shared
    assert set(tags_of_experiment(CHART, mine, "7", 1)) == {"mlflow.sharedViewState.dpn-chart-s"}
