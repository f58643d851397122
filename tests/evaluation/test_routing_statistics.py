"""Routing statistics against cases that are counted by hand, and what a checkpoint without routers is told."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpn_platform.benchmarks.outcomes import read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.recorded_runs import read_recorded, require_router
from dpn_platform.evaluation.routing_statistics import (
    group_statistics,
    image_pairs,
    keep_ratio,
    rank_correlation,
    routing_statistics,
    same_image,
)


def row(number, route, tokens, *, edge=0.1, correct=True, **more):
    """A sample of a model of four layers with sites after layers 1 and 2."""
    before, first, last = tokens
    kept = {"visual_tokens": list(tokens), "visual_tokens_mean": (before + first + 2 * last) / 4, "sites": [1, 2]}
    picture = {"image_width": 8, "image_height": 8, "edge_density": edge, "image_entropy": None, "image_sha": None}
    sample = {"place": number, "question_id": str(number), "has_image": True, "has_router": True, "route": route}
    sample |= {"family": "colour", "difficulty": None, "question": "what is it", "score": float(correct), "gold": "a"}
    return sample | kept | picture | {"answer": "a"} | more


ROWS = [
    row(0, "2x2,1x1", (64, 16, 16), edge=0.1),
    row(1, "2x2,1x1", (64, 16, 16), edge=0.2),
    row(2, "1x1,1x2", (64, 64, 32), edge=0.3, correct=False),
    row(3, "1x1,1x1", (64, 64, 64), edge=0.4, family="reading"),
]


def test_routes_and_sites_are_counted():
    group = group_statistics(ROWS)
    assert group["routes"] == {
        "2x2,1x1": {"n": 2, "share": 0.5},
        "1x1,1x1": {"n": 1, "share": 0.25},
        "1x1,1x2": {"n": 1, "share": 0.25},
    }
    assert group["distinct_routes"] == 3
    first, second = group["sites"]
    assert (first["after_layer"], first["choices"]) == (1, {"1x1": 0.5, "2x2": 0.5})
    assert first["keep_ratio"] == pytest.approx(160 / 256)
    assert (second["after_layer"], second["keep_ratio"]) == (2, pytest.approx(128 / 160))
    assert [keep_ratio(one) for one in ROWS] == [28 / 64, 28 / 64, 48 / 64, 1.0]


def test_against_question_picture_and_correctness():
    found = routing_statistics(ROWS, {"all": ROWS})
    assert found["question_type"]["reading"]["keep_ratio"] == 1.0
    assert found["correctness"]["wrong"] == {"n": 1, "keep_ratio": 0.75, "ci95": [0.75, 0.75], "accuracy": 0.0}
    edges = found["image"]["edge_density"]
    assert edges["spearman"] == pytest.approx(rank_correlation(np.arange(4.0), np.array([1.0, 1.0, 2.0, 3.0])))
    assert [one["n"] for one in edges["bins"]] == [1, 1, 1, 1]
    assert "image_entropy" not in found["image"], "what was not recorded is left out"
    assert "image_pixels" not in found["image"], "and what never differs"
    assert found["same_image"] is None


def test_rank_correlation():
    values = np.array([3.0, 1.0, 2.0, 5.0])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1.0)
    assert rank_correlation(values, -values) == pytest.approx(-1.0)
    assert rank_correlation(values, np.ones(4)) is None
    # Ties share their mean rank: ranks 1.5 1.5 3 against 1 2 3.
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(np.sqrt(3) / 2)


def test_the_same_picture_under_two_questions():
    rows = [
        row(0, "2x2,1x1", (64, 16, 16), image_sha="a", difficulty="easy", question="a much longer question here"),
        row(1, "1x1,1x1", (64, 64, 64), image_sha="a", difficulty="hard", question="short"),
        row(2, "1x1,1x1", (64, 64, 64), image_sha="b", question="short"),
        row(3, "2x2,1x1", (64, 16, 16), image_sha="b", question="some longer question"),
        row(4, "2x2,1x1", (64, 16, 16), image_sha="b", question="a question of middle length"),
        row(5, "2x2,1x1", (64, 16, 16), image_sha="c", difficulty="easy"),
        row(6, "2x2,1x1", (64, 16, 16), image_sha="c", difficulty="easy"),
    ]
    assert [(simple["place"], hard["place"]) for simple, hard in image_pairs(rows)] == [(0, 1), (2, 4)]
    found = same_image(rows)
    counts = (found["pairs"], found["simpler_pooled_more"], found["simpler_pooled_less"], found["sign_test_p"])
    assert counts == (2, 1, 1, 1.0)


def test_a_checkpoint_without_routers(save_checkpoint, evaluated, rows_table):
    result = evaluated(save_checkpoint(name="static", kernel="2x2"), rows_table.slice(0, 3))
    with pytest.raises(DpnError, match="no routers: its reductions are fixed or random"):
        require_router(read_recorded(result.outcomes_uri))


def test_what_an_evaluation_records_is_enough(save_checkpoint, evaluated, rows_table):
    outcomes = evaluated(save_checkpoint(name="dpn"), rows_table).outcomes_uri
    rows = require_router(read_recorded(outcomes.rpartition("/")[0]))
    found = routing_statistics(rows, {"all": rows})
    assert found["n"] == 8, "two of three samples have a picture"
    assert sum(one["n"] for one in found["groups"]["all"]["routes"].values()) == 8
    assert [site["after_layer"] for site in found["groups"]["all"]["sites"]] == rows[0]["sites"]
    assert set(found["image"]) == {"edge_density", "image_entropy"}, "all pictures have one size"
    assert {len(one["image_sha"]) for one in rows} == {16}
    without = [one for one in read_table(outcomes) if not one["has_image"]]
    assert {one["image_sha"] for one in without} == {one["edge_density"] for one in without} == {None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no outcomes.parquet there"),
        ([{"answer": "a"}], "no record of routes"),
        ([{**ROWS[0], "has_image": False}], "no sample has an image"),
        (
            [{**ROWS[0], "route": ""}],
            "no sites and no routers; .* need a model trained with method dpn",
        ),
    ],
)
def test_folders_that_hold_no_routes(tmp_path, rows, message):
    if rows is not None:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "outcomes.parquet")
    with pytest.raises(DpnError, match=message):
        require_router(read_recorded(str(tmp_path)))
