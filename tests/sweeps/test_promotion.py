"""Aliases: who may move them, what stops a move, and the records that say why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform.config.aliases import alias_of, registry_alias
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import Point
from dpn_platform.storage import list_files, read_bytes, read_json
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.decide import StudyMaterial, decide
from dpn_platform.sweeps.promotion.decision import Decision, current_aliases
from dpn_platform.sweeps.promotion.guarding import Guards
from dpn_platform.sweeps.promotion.looks import alpha_of_look
from dpn_platform.sweeps.promotion.promote import promote, read_decisions
from dpn_platform.sweeps.trials import Trial
from tests.evaluation.outcome_tables import answers, write_point

N = 1200
HARDNESS = np.random.default_rng(5).normal(size=N)
NOW = datetime(2024, 5, 1, 3, 0, tzinfo=UTC)
NO_GUARDS = Guards()
Make = Callable[..., Point]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A point of some accuracy and cost; points of one `kin` answer nearly alike."""

    def make(name: str, accuracy: float, cost: float, kin: int = 1, **more: Any) -> Point:
        return write_point(tmp_path, name, answers(accuracy, HARDNESS, kin), cost, more.pop("method", "dpn"), **more)

    return make


@pytest.fixture
def start(make: Make) -> StudyMaterial:
    """Dense and two others."""
    points = (make("dense", 0.90, 1.0, method="dense"), make("a", 0.85, 0.50), make("b", 0.80, 0.30))
    return StudyMaterial("night", points, "swiglu")


def after(
    material: StudyMaterial, *points: Point, aliases: tuple[str, ...] = ("budget-0.60",), **more: Any
) -> StudyMaterial:
    """The study after a night: its aliases decided upon, then these points new."""
    decisions = (*material.decisions, *decide(material, aliases, NO_GUARDS, NOW, **more))
    return replace(material, points=(*material.points, *points), decisions=decisions)


def one(material: StudyMaterial, alias: str = "budget-0.60", guards: Guards = NO_GUARDS, **more: Any) -> Decision:
    (decision,) = decide(material, [alias], guards, NOW, **more)
    return decision


def test_first_holders_are_named_without_a_test(start: StudyMaterial) -> None:
    champion, budget, cheap = decide(start, ["champion", "budget-0.60", "budget-0.4"], NO_GUARDS, NOW)
    assert (champion.action, champion.holder, champion.look) == ("first", "dense", 0)
    assert (
        champion.reason
        == "dense is the most accurate point no dearer than dense, of 3; a first holder is named without a test"
    )
    assert (budget.holder, budget.passed_over) == ("a", ("b",))
    assert (cheap.alias, cheap.holder) == ("budget-0.40", "b")


def test_a_true_gain_moves_the_alias(start: StudyMaterial, make: Make) -> None:
    decision = one(after(start, make("c", 0.89, 0.55), make("d", 0.85, 0.55, kin=2)))
    assert (decision.action, decision.holder_before, decision.holder) == ("moved", "a", "c")
    assert decision.reason.startswith("c is +4.00 points above a (95%: ")
    assert (decision.look, decision.alpha_spent) == (1, pytest.approx(0.05 * 6 / np.pi**2))
    c, d = decision.candidates
    assert c.gain == pytest.approx(0.04)
    assert c.is_proven
    assert not d.is_proven
    assert c.p_holm == pytest.approx(2 * (c.p_value or 1))
    assert (decision.n, decision.pictures) == (N, N // 2)


def test_luck_does_not(start: StudyMaterial, make: Make) -> None:
    decision = one(after(start, make("c", 0.855, 0.55, kin=3)))
    assert (decision.action, decision.holder) == ("kept", "a")
    assert decision.reason.startswith(
        "none of 1 new points is proven to beat a; the nearest, c, is at +0.50 points, p = "
    )


def test_what_is_too_dear_is_no_candidate(start: StudyMaterial, make: Make) -> None:
    decision = one(after(start, make("c", 0.95, 0.61)))
    assert (decision.action, decision.candidates, decision.alpha_spent) == ("kept", (), 0.0)
    assert decision.reason == "no new point since the last decision; a stays"


def test_every_look_spends_less_and_points_are_looked_at_once(start: StudyMaterial, make: Make) -> None:
    material = after(start, make("c", 0.85, 0.55, kin=2))
    for name, look in (("d", 1), ("e", 2), ("f", 3)):
        material = after(material, make(name, 0.85, 0.55, kin=2))
        assert material.decisions[-1].look == look
        assert len(material.decisions[-1].candidates) == 1
    decision = one(material)
    assert (decision.look, [other.name for other in decision.candidates]) == (4, ["f"])
    assert sum(alpha_of_look(0.05, look) for look in range(1, 10_000)) == pytest.approx(0.05, rel=1e-3)


def test_a_new_holder_begins_with_its_first_look(start: StudyMaterial, make: Make) -> None:
    material = after(start, make("c", 0.89, 0.55))
    material = after(material, make("d", 0.89, 0.55, kin=2))
    assert current_aliases(material.decisions) == {"budget-0.60": "c"}
    decision = one(material)
    assert (decision.holder_before, decision.look, [other.name for other in decision.candidates]) == ("c", 1, ["d"])


def test_the_best_of_the_first_is_not_believed_all_it_seems(make: Make) -> None:
    equals = [make(f"p{place}", 0.85 + 0.001 * place, 0.5, kin=10 + place) for place in range(6)]
    material = after(StudyMaterial("night", tuple(equals), "swiglu"))
    (first,) = material.decisions
    assert 0.001 < first.flattery < 0.03
    lone = after(StudyMaterial("night", (equals[5],), "swiglu"))
    assert lone.decisions[0].flattery == 0.0
    new = make("new", 0.875, 0.5, kin=30)
    with_it, without = one(replace(material, points=(*equals, new))), one(replace(lone, points=(equals[5], new)))
    assert with_it.candidates[0].gain == without.candidates[0].gain
    assert (with_it.candidates[0].p_value or 1) < (without.candidates[0].p_value or 0)


def test_the_knee_counts_what_a_gain_costs(start: StudyMaterial, make: Make) -> None:
    """Dearer by 0.2 and better by a little is no knee; as cheap and better by five points is."""
    points = (make("dense", 0.90, 1.0, method="dense"), make("low", 0.60, 0.1), make("k", 0.82, 0.3))
    material = after(StudyMaterial("night", points, "swiglu"), make("dear", 0.86, 0.5), aliases=("knee",))
    assert material.decisions[0].holder == "k"
    kept = one(material, "knee")
    assert (kept.action, kept.price) == ("kept", pytest.approx(0.3 / 0.9))
    assert kept.candidates[0].gain == pytest.approx(0.04 - 0.2 * 0.3 / 0.9)
    moved = one(after(material, make("better", 0.87, 0.3), aliases=("knee",)), "knee")
    assert (moved.action, moved.holder) == ("moved", "better")
    none = one(replace(start, points=start.points[:2]), "knee")
    assert (none.action, none.holder) == ("refused", None)
    assert "no knee" in none.reason


def test_an_objective_has_its_own_price(start: StudyMaterial) -> None:
    assert one(start, "objective-0.30").holder == "b"
    assert one(start, "objective-0.01").holder == "dense"


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_a_guard_stops_a_move_that_loses(make: Make, loss: float) -> None:
    pope = {"pope": answers(0.80, HARDNESS, 4)}
    worse = {"pope": answers(0.80 - loss, HARDNESS, 4)}
    material = StudyMaterial("night", (make("a", 0.85, 0.5, others=pope),), "swiglu")
    material = after(material, make("c", 0.89, 0.5, others=worse))
    decision = one(material, guards=Guards(("pope",), 1.0))
    assert decision.guards[0].change == pytest.approx(-loss)
    if loss:
        assert (decision.action, decision.holder) == ("refused", "a")
        assert decision.reason.startswith(
            "c is proven to beat a, but guard pope may lose more than 1 points: -3.00, 95%"
        )
        assert one(material, guards=Guards(("pope",), 6.0)).action == "moved"
    else:
        assert (decision.action, decision.holder) == ("moved", "c")


def test_a_guard_without_outcomes_refuses_and_the_point_waits(make: Make) -> None:
    pope = {"pope": answers(0.80, HARDNESS, 4)}
    guards = Guards(("pope",), 1.0)
    material = after(StudyMaterial("night", (make("a", 0.85, 0.5, others=pope),), "swiglu"), make("c", 0.89, 0.5))
    refused = one(material, guards=guards)
    assert (refused.action, refused.holder) == ("refused", "a")
    assert refused.reason == "c is proven to beat a, but guard pope has no result: c: has no outcomes of pope"
    material = replace(material, decisions=(*material.decisions, refused))
    assert one(material, guards=guards).look == 0  # nothing new, and nothing spent
    make("c", 0.89, 0.5, others=pope)  # its outcomes have come
    late = one(material, guards=guards)
    assert (late.action, late.holder, late.look, late.alpha_spent) == ("moved", "c", 0, 0.0)
    assert late.reason.endswith("as an earlier look has proven, and now passes the guards")


def test_other_questions_are_not_compared(start: StudyMaterial, make: Make) -> None:
    material = after(start, make("c", 0.99, 0.5, first_id=N))
    decision = one(material)
    assert (decision.action, decision.look) == ("refused", 0)
    assert (
        decision.reason == "none of 1 new points can be compared with a; c: answered other questions of heldout than a"
    )
    material = replace(material, decisions=(*material.decisions, decision))
    make("c", 0.99, 0.5)  # answered the same by the next night
    assert one(material).action == "moved"
    gone = replace(material, points=tuple(point for point in material.points if point.name != "a"))
    assert "no longer among the study's points" in one(gone).reason


@pytest.mark.parametrize(
    ("alias", "guards", "alpha", "message"),
    [
        ("winner", (), 0.05, "alias 'winner' has no rule; allowed are champion, knee, budget-X"),
        ("budget-0", (), 0.05, "has no rule"),
        ("budget-0.5", ("popes",), 0.05, "did you mean 'pope'"),
        ("champion", (), 0.05, "no measured dense control"),
        ("knee", (), 0.7, "alpha 0.7: a chance between 0 and 0.5"),
    ],
)
def test_bad_input_is_one_line(
    start: StudyMaterial, alias: str, guards: tuple[str, ...], alpha: float, message: str
) -> None:
    material = replace(start, points=start.points[1:])
    with pytest.raises(DpnError, match=message):
        decide(material, [alias], Guards(guards), NOW, alpha)
    with pytest.raises(DpnError, match="margin -1"):
        decide(material, ["budget-0.5"], Guards((), -1.0), NOW)


def test_one_alias_has_one_name() -> None:
    assert [alias_of(text) for text in ("budget-0.4", "budget-0.40", "budget-0.425")] == ["budget-0.40"] * 2 + [
        "budget-0.425"
    ]


@pytest.fixture
def ledger(make_config: Callable[..., ExperimentConfig], start: StudyMaterial) -> Ledger:
    config = make_config()
    found = Ledger(config.storage.runs_uri, "night")
    found.create(config)
    for point in start.points:
        put(found, point)
    return found


def put(ledger: Ledger, point: Point) -> None:
    params = {"method.name": point.method}
    ledger.put(Trial(point.name, params, state="finished", point=point.to_json(), is_control=point.is_control))


def test_records_are_numbered_and_never_written_again(ledger: Ledger, make: Make) -> None:
    assert promote(ledger, ["champion"], NO_GUARDS, now=NOW, dry_run=True)[0].holder == "dense"
    assert list_files(f"{ledger.uri}/promotions") == []
    promote(ledger, ["champion", "budget-0.6"], NO_GUARDS, now=NOW)
    first = read_bytes(list_files(f"{ledger.uri}/promotions")[0])
    put(ledger, make("c", 0.89, 0.5))
    promote(ledger, ["budget-0.6"], NO_GUARDS, now=NOW)
    files = list_files(f"{ledger.uri}/promotions")
    assert [Path(uri).name for uri in files] == ["0001.json", "0002.json", "0003.json"]
    assert read_bytes(files[0]) == first
    assert [decision.number for decision in read_decisions(ledger)] == [1, 2, 3]
    assert current_aliases(read_decisions(ledger)) == {"champion": "dense", "budget-0.60": "c"}
    assert json.dumps(read_json(files[2]), allow_nan=False)
    assert (
        promote(ledger, ["budget-0.6"], NO_GUARDS, now=NOW)[0].reason == "no new point since the last decision; c stays"
    )


def test_a_record_that_is_none_is_named(ledger: Ledger) -> None:
    folder = Path(ledger.uri.removeprefix("file://")) / "promotions"
    folder.mkdir(parents=True)
    (folder / "0001.json").write_text('{"schema_version": 1, "alias": "knee"}')
    with pytest.raises(DpnError, match=r"0001.json: not a promotion's record, study: Field required"):
        read_decisions(ledger)


def test_points_on_one_route_are_no_candidates(ledger: Ledger, make: Make) -> None:
    point = make("a-route-1x1", 0.99, 0.5)
    ledger.put(Trial(point.name, {"method.name": "dpn"}, state="finished", point=point.to_json(), route=["1x1"]))
    assert promote(ledger, ["champion"], NO_GUARDS, now=NOW)[0].holder == "dense"


def test_an_alias_has_letters_that_a_registry_takes() -> None:
    asked = ("champion", "budget-0.40", "budget-0.125", "objective-0.30")
    assert [registry_alias(alias) for alias in asked] == ["champion", "budget-40", "budget-12_5", "objective-0_30"]
    with pytest.raises(ValueError, match="up to 1"):
        alias_of("budget-1.5")
