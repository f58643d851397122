"""Verdicts over tables with known answers: who knows the family, who does not, and how often chance is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.reports.dynamic import shuffling
from dpn_platform.reports.dynamic.material import Material, material_of
from dpn_platform.reports.dynamic.proof import Proof, summary_of
from dpn_platform.reports.dynamic.prove import proofs_of, shuffled_gain
from dpn_platform.reports.dynamic.static_mixture import gain_over_mixture, static_mixture
from dpn_platform.reports.dynamic.table import route_table
from tests.reports.dynamic_tables import CHEAP, DEAR, halves, knows_the_family, outcome, scores_of, table_of

N = 400
FAMILIES = halves(N)
TWO = {CHEAP: 400, DEAR: 1000}


def coin(seed: int, share: float = 0.5) -> Callable[[int, str], str]:
    """A router that looks at nothing."""
    dear = np.random.default_rng([seed, 1]).random(N) < share
    return lambda place, family: DEAR if dear[place] else CHEAP


def proof(choose: Callable[[int, str], str], others: list[Material] | None = None, **more: Any) -> Proof:
    return proofs_of(material_of("point", table_of(FAMILIES, choose, scores_of(FAMILIES), **more)), others or [])[0]


def pyramid(scores: list[float], cost: float, method: str = "static", route: str = "1x2,1x2") -> Material:
    rows = [
        outcome(place, FAMILIES[place], route, scores[place], cost, method=method, checkpoint=method, has_router=False)
        for place in range(N)
    ]
    return material_of(method, rows)


def test_a_router_that_knows_the_family_gains_exactly() -> None:
    found = proof(knows_the_family)
    scores = scores_of(FAMILIES)
    own = np.mean([scores[knows_the_family(n, FAMILIES[n])][n] for n in range(N)])
    mixed = 0.75 * scores["1x2,1x2"].mean() + 0.25 * scores[DEAR].mean()  # at a cost of 0.7
    shuffled = (scores[CHEAP] + scores[DEAR]).mean() / 2
    static, dealt = found.gain("own routes mixed"), found.gain("own routes shuffled")
    within = found.gain("shuffled within groups")
    assert static is not None
    assert dealt is not None
    assert within is not None
    assert static.shares == pytest.approx({"1x2,1x2": 0.75, DEAR: 0.25})
    assert static.value == pytest.approx(own - mixed)
    assert dealt.value == pytest.approx(own - shuffled)
    assert within.value == 0, "inside a family it knows nothing more"
    assert found.shuffled_within == "family"
    assert found.is_dynamic
    assert found.verdict.startswith("dynamic at equal mean cost: +")
    assert found.verdict.endswith("not held against separately trained pyramids (there are none)")
    assert found.oracle is not None
    assert found.oracle.closed_per_family == pytest.approx(1.0, abs=0.1)
    assert found.costs is not None
    assert (found.costs.low, found.costs.high, found.costs.mean) == pytest.approx((0.4, 1.0, 0.7))


def test_a_constant_router_is_refused() -> None:
    found = proof(lambda place, family: "1x2,1x2")
    assert not found.is_dynamic
    assert found.verdict.startswith(
        "not shown to be dynamic: every picture takes 1x2,1x2; +0.00 points against the best"
    )
    assert found.entropy == 0
    assert all(gain.value == 0 and gain.ci == (0, 0) for gain in found.gains)


def test_rounding_is_no_gain() -> None:
    """Three routes on one line at odd costs: a coin between them is the mixture, to the last digit or nearly so."""
    scores = {CHEAP: [0.1] * N, DEAR: [0.7] * N}
    found = proofs_of(material_of("x", table_of(FAMILIES, coin(0, 0.37), scores, {CHEAP: 100, DEAR: 700})))[0]
    assert not found.is_dynamic
    assert found.gains[0].value == pytest.approx(0, abs=1e-9)


def test_a_router_that_looks_at_nothing_is_rarely_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two routes, so that its true gain is 0: both intervals lie above zero in 2.5% of the runs, or less.

    Of 120 runs 3 are expected at most; 9 or more have a chance of 1 in 250.
    """
    monkeypatch.setattr(shuffling, "_DRAWS", 300)
    believed, values = 0, []
    for seed in range(120):
        scores = {route: one for route, one in scores_of(FAMILIES, seed=seed).items() if route in TWO}
        table = route_table(material_of("x", table_of(FAMILIES, coin(seed), scores, TWO)), "swiglu")
        (choice,) = table.choices
        mixture = static_mixture(table, choice.cost, table.routes)
        assert mixture is not None
        value, draws = gain_over_mixture(table, choice, mixture, seed)
        believed += interval(draws)[0] > 0 and shuffled_gain(table, choice, seed).is_above
        values.append(value)
    assert believed < 9
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values)), "0 on average"


def test_trained_pyramids_count_where_they_are_as_cheap() -> None:
    strong, dear = pyramid([1.0] * N, 690.0), pyramid([1.0] * N, 900.0)
    beaten, unbeaten = proof(knows_the_family, [pyramid([0.0] * N, 690.0)]), proof(knows_the_family, [strong])
    assert beaten.is_dynamic
    assert beaten.gain("trained pyramids") is not None
    assert not unbeaten.is_dynamic
    assert "points against separately trained pyramids (−" in unbeaten.verdict
    too_dear = proof(knows_the_family, [dear])
    assert too_dear.gain("trained pyramids") is None
    assert too_dear.verdict.endswith("not held against separately trained pyramids (all are dearer)")
    with_dense = proof(knows_the_family, [pyramid([0.5] * N, 400.0), pyramid([1.0] * N, 1000.0, "dense", "")])
    gain = with_dense.gain("trained pyramids")
    assert gain is not None
    assert gain.shares == pytest.approx({"static": 0.5, "dense": 0.5})
    assert proof(knows_the_family, [pyramid([1.0] * N, 600.0, route="1x2,1x2,1x2")]).pyramids == (), "other sites"


def test_hard_questions_are_those_of_smaller_pictures_or_of_the_cheapest_route() -> None:
    scores = scores_of(FAMILIES)
    assert (hard := proof(knows_the_family).hard) is not None
    assert hard.control == f"route {CHEAP}, its cheapest"
    assert hard.n == (scores[CHEAP] == 0).sum()
    right = [float(place % 4 > 0) for place in range(N)]  # wrong on every fourth, which is about counting
    hard = proof(knows_the_family, [pyramid(right, 500.0, "downsample", "")]).hard
    assert hard is not None
    assert (hard.control, hard.n) == ("downsample", N // 4)
    assert hard.method == pytest.approx(scores[CHEAP][::4].mean())


def test_points_of_a_dial_have_verdicts_of_their_own() -> None:
    rows = table_of(FAMILIES, coin(1), scores_of(FAMILIES), budgets={0.8: coin(2, 0.7), 0.7: knows_the_family})
    proofs = proofs_of(material_of("point", rows))
    assert [(one.told, one.is_dynamic) for one in proofs] == [
        ("point", False),
        ("point at budget 0.7", True),
        ("point at budget 0.8", False),
    ]
    assert proofs[2].gains[0].value < 0, "below the hull"
    assert summary_of(proofs) == (
        "dynamic: 1 of 2 dial points; not shown to be dynamic: 1 of 1 checkpoint, 1 of 2 dial points"
    )


def test_a_dial_over_routes_that_were_never_trained_is_warned_of() -> None:
    def warned(settings: dict[str, Any]) -> tuple[str, ...]:
        rows = table_of(FAMILIES, coin(1), scores_of(FAMILIES), budgets={0.7: coin(2)}, settings=json.dumps(settings))
        return proofs_of(material_of("point", rows))[0].warnings

    (line,) = warned({"sandwich": {"drawn": 0}})
    told = re.search(rf"from ([\d.]+)% \({re.escape(CHEAP)}\)", line)
    assert told is not None
    assert float(told[1]) == pytest.approx(100 * scores_of(FAMILIES)[CHEAP].mean(), abs=0.051)  # one digit is printed
    assert warned({"sandwich": {"drawn": 2}}) == ()
    assert proof(coin(1)).warnings == (), "no dial"


def test_pictures_are_drawn_with_all_their_questions() -> None:
    """Eight questions of a picture that come out alike are worth one: the error is that of an eighth of them.

    What shuffling adds to the error of the second is of single questions, whatever picture they are of.
    """
    families = [one for one in halves(N // 8) for _ in range(8)]
    scores = {route: np.repeat(one, 8) for route, one in scores_of(halves(N // 8)).items()}
    apart = table_of(families, knows_the_family, scores)
    whole = [row | {"image_sha": f"p{row['place'] // 8}"} for row in apart]
    of_whole, of_apart = (proofs_of(material_of("x", rows))[0] for rows in (whole, apart))
    assert (of_whole.pictures, of_apart.pictures) == (N // 8, N)
    (static, dealt), (static_apart, dealt_apart) = of_whole.gains[:2], of_apart.gains[:2]
    assert (static.value, dealt.value) == pytest.approx((static_apart.value, dealt_apart.value))
    assert static.standard_error / static_apart.standard_error == pytest.approx(np.sqrt(8), rel=0.1)
    assert 1.4 < dealt.standard_error / dealt_apart.standard_error < np.sqrt(8)


def test_several_benchmarks_are_averaged_and_shuffled_within() -> None:
    """Who tells benchmarks apart and nothing more gains over the shuffle among all, not over that within them."""
    rows = [
        row | {"benchmark": "gqa" if row["family"] == "reading" else "textvqa"}
        for row in table_of(FAMILIES, knows_the_family, scores_of(FAMILIES))
    ]
    found = proofs_of(material_of("x", rows))[0]
    within = found.gain("shuffled within groups")
    assert within is not None
    assert found.shuffled_within == "benchmark"
    assert (found.is_dynamic, within.value) == (True, 0)
    assert found.information["benchmark"].bits == pytest.approx(1.0)


def test_a_proof_survives_json() -> None:
    found = proof(knows_the_family, [pyramid([0.5] * N, 600.0)])
    assert Proof.model_validate(json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))) == found
