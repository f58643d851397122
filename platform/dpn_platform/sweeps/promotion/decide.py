"""decide: whether each alias moves tonight. Nothing is written here, and the same material gives the same decisions.

Candidates are the points that came since the holder was named. What was there then was compared with it by choosing it,
and is not looked at again. A candidate that is proven and stopped by a guard waits: the night its guard passes, it
moves the alias without another test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.benchmarks.statistics.best_of_many import flattery_of_best
from dpn_platform.benchmarks.statistics.paired_pictures import PictureChange, picture_change
from dpn_platform.config.aliases import alias_of
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.common_outcomes import CommonOutcomes, common_outcomes
from dpn_platform.evaluation.pareto import flops_ratio
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.sweeps.promotion.decision import Candidate, Decision
from dpn_platform.sweeps.promotion.guarding import Guards, first_to_pass
from dpn_platform.sweeps.promotion.looks import alpha_of_look, corrected
from dpn_platform.sweeps.promotion.rules import Rule, rule_of
from dpn_platform.sweeps.promotion.telling import told_gain, told_kept

#: points, convention, benchmarks (none: the study's own accuracy), whose questions count
Read = Callable[[Sequence[Point], Convention, Sequence[str], str], CommonOutcomes]


@dataclass(frozen=True)
class StudyMaterial:
    """All that is known of a study.

    Attributes:
        points: every evaluated one, each seed by itself, none that is another on a single route.
        decisions: made so far, in their order.
        read: outcome tables.
        asked: benchmarks whose questions it asks; empty: nobody has said.
    """

    study: str
    points: tuple[Point, ...]
    convention: Convention
    decisions: tuple[Decision, ...] = ()
    read: Read = common_outcomes
    asked: tuple[str, ...] = ()


def decide(
    material: StudyMaterial, aliases: Sequence[str], guards: Guards, now: datetime, alpha: float = 0.05
) -> list[Decision]:
    """A decision for every alias.

    Args:
        material: the study.
        aliases: `champion`, `knee`, `budget-X`, `objective-P`.
        guards: benchmarks that a new holder must not lose on.
        now: with its time zone.
        alpha: the chance that a holder is ever replaced by a point that is no better, over all looks at it.

    Raises:
        DpnError: an alias without a rule, a guard that is no benchmark or not asked, a champion without a dense
            control, or a level or margin out of range.
    """
    if not 0 < alpha < 0.5:
        raise DpnError(f"alpha {alpha:g}: a chance between 0 and 0.5 is allowed, such as 0.05")
    if not guards.margin >= 0:
        raise DpnError(f"margin {guards.margin:g}: points of 0 or more are allowed")
    guards = Guards(tuple(dict.fromkeys(find_benchmark(name).name for name in guards.benchmarks)), guards.margin)
    asked = [find_benchmark(name).name for name in material.asked] if guards.benchmarks else []
    if asked and (unasked := [name for name in guards.benchmarks if name not in asked]):
        raise DpnError(
            f"guard {unasked[0]}: study '{material.study}' asks no questions of it; allowed: {', '.join(asked)}"
        )
    try:
        names = dict.fromkeys(alias_of(alias) for alias in aliases)
    except ValueError as error:
        raise DpnError(str(error)) from None
    return [_decide(material, alias, guards, now.isoformat(timespec="seconds"), alpha) for alias in names]


def _decide(material: StudyMaterial, alias: str, guards: Guards, now: str, alpha: float) -> Decision:
    rule = rule_of(alias, material.points, material.convention)
    past = [one for one in material.decisions if one.alias == alias]
    holder_name = past[-1].holder if past else None
    blank = Decision(
        study=material.study,
        alias=alias,
        decided_at=now,
        rule=rule.told,
        convention=rule.convention,
        max_cost=None if math.isinf(rule.max_cost) else rule.max_cost,
        price=rule.price,
        action="refused",
        reason=rule.missing or "",
        holder_before=holder_name,
        holder=holder_name,
        alpha=alpha,
        margin=guards.margin,
    )
    admitted = [point for point in material.points if rule.admits(point)]
    if rule.missing is not None:
        return blank
    if not admitted:
        return blank.model_copy(update={"reason": f"no measured point of the study can be {rule.told}"})
    if holder_name is None:
        return _first(material, blank, rule, admitted)
    holder = next((point for point in material.points if point.name == holder_name), None)
    if holder is None:
        reason = f"its holder {holder_name} is no longer among the study's points, so nothing can be compared with it"
        return blank.model_copy(update={"reason": reason})
    return _look(material, blank, rule, guards, holder, admitted, past)


def _first(material: StudyMaterial, blank: Decision, rule: Rule, admitted: Sequence[Point]) -> Decision:
    best = max(admitted, key=lambda point: (rule.value(point), -flops_ratio(point, rule.convention)))
    reason = f"{best.name} is {rule.told}, of {len(admitted)}; a first holder is named without a test"
    others = tuple(point.name for point in admitted if point is not best)
    update = {"action": "first", "reason": reason, "holder": best.name, "passed_over": others}
    return blank.model_copy(update={**update, "flattery": _flattery(material, rule, best, admitted)})


def _flattery(material: StudyMaterial, rule: Rule, best: Point, admitted: Sequence[Point]) -> float:
    """None is counted where outcomes cannot be read: that makes later moves harder, not easier."""
    try:
        outcomes = material.read(admitted, rule.convention, (), best.name)
    except DpnError:
        return 0.0
    kept = [point for point in admitted if point.name in outcomes.of]
    prices = np.array([point.accuracy - rule.value(point) for point in kept])
    return flattery_of_best(outcomes.pictures, np.stack([outcomes.of[point.name].score_C for point in kept]), prices)


def _look(
    material: StudyMaterial,
    blank: Decision,
    rule: Rule,
    guards: Guards,
    holder: Point,
    admitted: Sequence[Point],
    past: Sequence[Decision],
) -> Decision:
    seen = {
        name for one in past for name in (*one.passed_over, *(other.name for other in one.candidates if not other.note))
    }
    seen |= {str(one.holder) for one in past}
    new = [point for point in admitted if point.name not in seen]
    at_holder = [one for one in past if one.holder_before == holder.name]
    names = {point.name for point in admitted}
    proven_before = (other for one in at_holder for other in one.candidates if other.is_proven)
    waiting = {one.name: one for one in proven_before if one.name in names}
    if not new and not waiting:
        reason = f"no new point since the last decision; {holder.name} stays"
        return blank.model_copy(update={"action": "kept", "reason": reason})
    flattery = next((one.flattery for one in past if one.action == "first" and one.holder == holder.name), 0.0)
    candidates, update = _compared(material, rule, holder, new, flattery)
    compared = [one for one in candidates if one.note is None]
    if compared:
        look = 1 + sum(one.look > 0 for one in at_holder)
        level = alpha_of_look(blank.alpha, look)
        update |= {"look": look, "alpha_spent": level}
        candidates = [
            one.model_copy(update={"is_proven": (one.p_holm or 0) <= level and not one.note}) for one in candidates
        ]
    update["candidates"] = tuple(candidates)
    proven = [*(one for one in candidates if one.is_proven), *waiting.values()]
    if not proven:
        update["reason"] = told_kept(holder.name, candidates, update)
        return blank.model_copy(update={**update, "action": "kept" if compared else "refused"})
    best, results, stopped = first_to_pass(material, guards, holder, sorted(proven, key=lambda one: -one.value))
    update["guards"] = results
    if best is None:
        return blank.model_copy(update={**update, "reason": stopped})
    reason = told_gain(best, holder.name, update, rule.price, is_late=best.name in waiting)
    return blank.model_copy(update={**update, "action": "moved", "holder": best.name, "reason": reason})


def _compared(
    material: StudyMaterial, rule: Rule, holder: Point, new: Sequence[Point], flattery: float
) -> tuple[list[Candidate], dict[str, Any]]:
    """Every new point against the holder, on the holder's questions; and on how many."""
    blank = [
        Candidate(
            name=point.name,
            accuracy=point.accuracy,
            cost=flops_ratio(point, rule.convention),
            value=rule.value(point),
        )
        for point in new
    ]
    if not new:
        return [], {}
    try:
        outcomes = material.read([holder, *new], rule.convention, (), holder.name)
    except DpnError as error:
        return [one.model_copy(update={"note": str(error)}) for one in blank], {}
    changes = {
        point.name: _change(outcomes, rule, holder, point, flattery) for point in new if point.name in outcomes.of
    }
    p_holm = dict(zip(changes, corrected(list(changes.values())), strict=True))
    found = [
        one.model_copy(
            update={
                "gain": change.value,
                "ci": change.ci95,
                "p_value": change.p_value,
                "p_holm": p_holm[one.name],
            }
            if (change := changes.get(one.name))
            else {"note": outcomes.left_out[one.name]}
        )
        for one in blank
    ]
    return found, {
        "flattery": flattery,
        "n": outcomes.pictures.num_questions,
        "pictures": len(outcomes.pictures.size_C),
    }


def _change(outcomes: CommonOutcomes, rule: Rule, holder: Point, point: Point, flattery: float) -> PictureChange:
    """In what the rule looks at: costs, where they have a price, differ from picture to picture too."""
    mine, theirs = outcomes.of[point.name], outcomes.of[holder.name]
    part_C = outcomes.pictures.weight_C * (mine.score_C - theirs.score_C)
    if rule.price:
        for answered, owner, sign in ((mine, point, -1), (theirs, holder, 1)):
            share_C = answered.macs_C / answered.macs_C.sum()
            even_C = np.full(len(part_C), 1 / len(part_C))
            cost = rule.price * flops_ratio(owner, rule.convention)
            part_C = part_C + sign * cost * (share_C if np.isfinite(share_C).all() else even_C)
    return picture_change(part_C, flattery)
