"""Claims against the controls: the mixture that a point is held against, its paired interval, what is not claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.study.claims import claims_of
from dpn_platform.reports.study.page import report_page
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import claims_sentence

N = 200
Make = Callable[..., Point]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A point with its outcome table; `right` are the places of questions answered right."""

    def make(
        name: str,
        method: str,
        cost: float,
        right: Sequence[int],
        benchmark: str = "heldout",
        routes: Sequence[str] = (),
    ) -> Point:
        rows = [
            {
                "benchmark": benchmark,
                "variant": "",
                "place": place,
                "question_id": str(place),
                "unit": str(place // 2),
                "in_headline": True,
                "score": float(place in set(right)),
                "has_image": True,
                "route": routes[place] if routes else "",
                "parsed": "yes",
                "gold": "yes",
            }
            for place in range(N)
        ]
        uri = tmp_path / f"{name}.parquet"
        uri.write_bytes(encode_table(rows))
        return Point(
            name=name,
            method=method,
            accuracy=len(right) / N,
            accuracy_ci=(0.0, 1.0),
            flops_ratio={"swiglu": cost, "eq8": cost},
            visual_tokens_mean=64 * cost,
            outcomes_uri=str(uri),
            is_control=method != "dpn",
        )

    return make


def controls(make: Make) -> list[Point]:
    """Dense is always right; two seeds of a control are right on 60 and 100 of 200 at half the cost."""
    return [
        make("dense", "dense", 1.0, range(N)),
        make("drop-seed-0", "random_drop", 0.5, range(60)),
        make("drop-seed-1", "random_drop", 0.5, range(100)),
    ]


def test_a_point_is_held_against_the_mixture_at_its_cost(make: Make) -> None:
    """At 0.75, half dense and half the control (40% right on average over its seeds): 70% expected."""
    better, equal = make("dpn-00", "dpn", 0.75, range(190)), make("dpn-01", "dpn", 0.75, range(140))
    claims = claims_of([*controls(make), better, equal], "swiglu")
    assert [claim.point for claim in claims] == ["dpn-00", "dpn-01"]
    assert claims[0].controls == {"drop": pytest.approx(0.5), "dense": pytest.approx(0.5)}
    assert [claim.change.value for claim in claims] == pytest.approx([0.25, 0.0])
    assert claims[0].change.low > 0.15
    assert claims[1].change.low < 0 < claims[1].change.high


def test_a_cheaper_control_counts_by_itself_and_a_cheaper_point_is_not_claimed(make: Make) -> None:
    strong = make("static_1x2", "random_drop", 0.6, range(180))
    point, cheapest = make("dpn-00", "dpn", 0.62, range(180)), make("dpn-01", "dpn", 0.1, range(20))
    [claim] = claims_of([*controls(make), strong, point, cheapest], "swiglu")
    assert claim.controls == {"static_1x2": pytest.approx(0.95), "dense": pytest.approx(0.05)}
    assert claim.change.value == pytest.approx(-0.005)


def test_rivals_are_claimed_with_their_seeds_together(make: Make) -> None:
    rivals = [make(f"fastv-seed-{seed}", "fastv", 0.75, range(100 + 40 * seed)) for seed in range(2)]
    [claim] = claims_of([*controls(make), *rivals], "swiglu")
    assert (claim.point, claim.change.value) == ("fastv", pytest.approx(0.6 - 0.7))
    assert claim.change.high < 0


def on_routes(make: Make, name: str, right: dict[str, Sequence[int]]) -> list[Point]:
    """A checkpoint on each of its routes."""
    return [
        make(f"{name}-route-{route.replace(',', '-')}", "dpn", 0.5, places).model_copy(
            update={"params": {"route": route}}
        )
        for route, places in right.items()
    ]


def test_a_dynamic_point_is_held_against_its_own_routes_shuffled(make: Make) -> None:
    """A quarter of the samples take a route right on all, the rest one right on them alone: 81.25% when shuffled."""
    taken = ["1x1,1x1"] * 50 + ["2x2,2x2"] * 150
    routes = {"colour": {"1x1,1x1": 50, "2x2,2x2": 100}, "text": {"2x2,2x2": 50}}
    dynamic = make("dpn-00", "dpn", 0.4, range(N), routes=taken).model_copy(update={"routes": routes})
    fixed = on_routes(make, "dpn-00", {"1x1,1x1": range(N), "2x2,2x2": range(50, N)})
    claims = claims_of([*controls(make), dynamic, *fixed], "swiglu")
    assert [(claim.point, claim.against) for claim in claims] == [("dpn-00", "own routes shuffled")], "dearer controls"
    assert claims[0].controls == {"1x1,1x1": 0.25, "2x2,2x2": 0.75}
    assert claims[0].change.value == pytest.approx(0.75 * 0.25)
    assert claims[0].change.low > 0.1
    assert claims_of([*controls(make), dynamic, fixed[0]], "swiglu") == (), "not run on every route"
    sentence = claims_sentence(StudyRecord("s", (), claims=claims))
    assert sentence is not None
    assert "Beat their own routes, shuffled among samples: dpn-00 (+18.8, " in sentence


def test_three_lucky_samples_are_no_proof_of_dealing(make: Make) -> None:
    """A rare route that fails on half of the others was right on the three that took it: by chance 1 in 8."""
    taken = ["2x2,2x2"] * 3 + ["1x1,1x1"] * 197
    routes = {"colour": {"2x2,2x2": 3, "1x1,1x1": 197}}
    dynamic = make("dpn-00", "dpn", 0.4, range(N), routes=taken).model_copy(update={"routes": routes})
    fixed = on_routes(make, "dpn-00", {"1x1,1x1": range(N), "2x2,2x2": range(100)})
    [claim] = claims_of([*controls(make), dynamic, *fixed], "swiglu")
    assert claim.change.value == pytest.approx(0.0075)
    assert claim.change.low <= 0


def test_nothing_is_claimed_where_questions_differ_or_the_score_is_no_mean(make: Make, tmp_path: Path) -> None:
    points = [*controls(make), make("dpn-00", "dpn", 0.75, range(190))]
    (tmp_path / "dpn-00.parquet").write_bytes(
        encode_table([{"benchmark": "heldout", "variant": "", "place": 7, "question_id": "7", "score": 1.0}])
    )
    assert claims_of(points, "swiglu") == ()
    of_pope = [point.model_copy(update={"outcomes_uri": None}) for point in points]
    assert claims_of(of_pope, "swiglu") == ()
    assert claims_of([make("dense", "dense", 1.0, range(N), "pope"), *points[1:]], "swiglu") == ()


def test_the_page_says_who_beats_the_controls_and_who_does_not(make: Make) -> None:
    points = (*controls(make), make("dpn-00", "dpn", 0.75, range(190)), make("dpn-01", "dpn", 0.75, range(140)))
    record = StudyRecord("s", points, claims=claims_of(points, "swiglu"))
    sentence = claims_sentence(record)
    assert sentence is not None
    assert sentence.startswith("Beat the best mixture of controls at their own cost: dpn-00 (+25.0, ")
    assert "dpn-01" not in sentence
    assert "Not told apart from it: 1 of 2 points. Below it: 0." in sentence
    page = report_page(record, None)
    assert "Against the controls" in page
    assert "drop 50%, dense 50%" in page
    assert StudyRecord.from_json(record.to_json()).claims == record.claims
    assert claims_sentence(StudyRecord("s", points)) is None
