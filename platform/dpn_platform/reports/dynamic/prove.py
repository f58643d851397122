"""From outcome rows to proofs: every operating point of a checkpoint against all that it has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dpn_model.methods.registry import find_method, method_names
from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.benchmarks.statistics.power import questions_needed, resolvable
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.reports.dynamic.cautions import cautions_of
from dpn_platform.reports.dynamic.information import entropy_of_routes, information_of
from dpn_platform.reports.dynamic.material import Material, materials_of_points
from dpn_platform.reports.dynamic.oracle import per_family_gain, per_sample_gain, tie_rate
from dpn_platform.reports.dynamic.proof import (
    Against,
    CostSpread,
    Gain,
    HardGroup,
    InformationBits,
    MeasuredRoute,
    Oracle,
    Proof,
)
from dpn_platform.reports.dynamic.shuffling import gain_over_shuffled
from dpn_platform.reports.dynamic.static_mixture import Mixture, gain_over_mixture, static_mixture
from dpn_platform.reports.dynamic.table import Choice, Fixed, Floats, RouteTable, aligned, route_table, scored_rows

_DIGITS = 10


def proofs_of(
    material: Material, others: Sequence[Material] = (), convention: Convention = "swiglu", seed: int = 0
) -> list[Proof]:
    """A proof, or its refusal, of every operating point of one checkpoint.

    Args:
        material: its outcomes, with those on its routes.
        others: of other checkpoints on the same questions. Held against it are pyramids, the model without reduction,
            and, for its hard group, one that is shown smaller pictures.
        convention: of the cost.
        seed: of every draw.

    Raises:
        DpnError: no outcomes per route, of another checkpoint, or of other questions.
    """
    table = route_table(material, convention)
    own = scored_rows(material)
    pyramids, smaller = (
        [aligned(one.name, own, one.own, one.name, convention) for one in others if belongs(one)]
        for belongs in (lambda one: _is_pyramid(one, material), _shows_smaller_pictures)
    )
    return [_proof(table, choice, pyramids, smaller, convention, seed) for choice in table.choices]


def proofs_of_points(points: Sequence[Point], convention: Convention, seed: int = 0) -> tuple[Proof, ...]:
    """Proofs of every point of a study that has outcomes per route; a point whose outcomes do not fit has none."""
    proofs: list[Proof] = []
    try:
        materials = materials_of_points(points)
    except DpnError:
        return ()
    for material in materials.values():
        if not material.on_routes:
            continue
        try:
            proofs += proofs_of(material, list(materials.values()), convention, seed)
        except DpnError:
            continue
    return tuple(proofs)


def shuffled_gain(table: RouteTable, choice: Choice, seed: int = 0) -> Gain:
    """The method minus its own routes dealt to its samples at random."""
    value, draws = gain_over_shuffled(table, choice, seed=seed)
    return _gain("own routes shuffled", _shares(table, choice), value, draws, len(choice.score_N))


def _proof(
    table: RouteTable,
    choice: Choice,
    pyramids: Sequence[Fixed],
    smaller: Sequence[Fixed],
    convention: Convention,
    seed: int,
) -> Proof:
    shares = _shares(table, choice)
    low, high = interval(table.draws(choice.score_N, seed))
    found = Proof(
        name=table.name,
        checkpoint=table.checkpoint,
        method=table.method,
        budget=choice.budget,
        convention=convention,
        n=len(choice.score_N),
        pictures=table.num_pictures,
        cost=_finite(choice.cost),
        accuracy=table.mean(choice.score_N),
        ci=(low, high),
        routes=tuple(_measured(table, route, shares.get(route.name, 0.0)) for route in table.routes),
        pyramids=tuple(_measured(table, one) for one in pyramids),
        costs=_spread(choice),
        warnings=cautions_of(table),
    )
    if len(table.routes) < 2:
        return found
    mixture = static_mixture(table, choice.cost, table.routes)
    gains = _gains(table, choice, mixture, static_mixture(table, choice.cost, pyramids) if pyramids else None, seed)
    bits = information_of(table, choice, seed)
    more = {
        "gains": gains,
        "shuffled_within": _groups(table)[0],
        "ties": tie_rate(table),
        "entropy": entropy_of_routes(choice),
        "information": {name: InformationBits(**one._asdict()) for name, one in bits.items()},
    }
    if mixture is not None:
        more["mixture_accuracy"] = table.mean(mixture.score_N)
        more["oracle"] = _oracle(table, choice, mixture, gains[0].value, seed)
        more["hard"] = _hard_group(table, choice, mixture, smaller)
    return found.model_copy(update=more)


def _gains(
    table: RouteTable, choice: Choice, mixture: Mixture | None, trained: Mixture | None, seed: int
) -> tuple[Gain, ...]:
    """Over the mixtures that there are, its routes mixed first, then over its routes shuffled."""
    found = []
    mixtures: dict[Against, Mixture | None] = {"own routes mixed": mixture, "trained pyramids": trained}
    for against, one in mixtures.items():
        if one is not None:
            value, draws = gain_over_mixture(table, choice, one, seed)
            found.append(_gain(against, one.shares, value, draws, len(choice.score_N)))
    found.append(shuffled_gain(table, choice, seed))
    value, draws = gain_over_shuffled(table, choice, _groups(table)[1], seed)
    found.append(_gain("shuffled within groups", _shares(table, choice), value, draws, len(choice.score_N)))
    return tuple(found)


def _gain(against: Against, shares: Mapping[str, float], value: float, draws: Floats, n: int) -> Gain:
    # Sums of shares leave rounding behind, and an interval around 1e-16 would exclude zero.
    value, draws = round(value, _DIGITS) + 0.0, draws.round(_DIGITS) + 0.0
    error = float(draws.std())
    return Gain(
        against=against,
        shares=dict(shares),
        value=value,
        ci=interval(draws),
        standard_error=error,
        questions_needed=questions_needed(value, error, n),
        resolvable=resolvable(error),
    )


def _groups(table: RouteTable) -> tuple[str, np.ndarray]:
    """Within what routes are shuffled beside the shuffle among all: benchmarks, or of one benchmark its families."""
    return ("benchmark", table.benchmark_N) if len(table.benchmarks) > 1 else ("family", table.family_N)


def _oracle(table: RouteTable, choice: Choice, mixture: Mixture, gain: float, seed: int) -> Oracle:
    per_sample, per_family = per_sample_gain(table, choice, mixture), per_family_gain(table, choice, seed)
    return Oracle(
        per_family=per_family,
        per_sample=per_sample,
        closed_per_family=gain / per_family if per_family is not None and per_family > 1e-9 else None,
        closed_per_sample=gain / per_sample if per_sample > 1e-9 else None,
    )


def _hard_group(table: RouteTable, choice: Choice, mixture: Mixture, smaller: Sequence[Fixed]) -> HardGroup | None:
    """By the run on smaller pictures whose cost is nearest; without one, by the cheapest of its own routes."""
    control = min(smaller, key=lambda one: abs(float(one.cost_N.mean()) - choice.cost), default=None)
    told = f"route {table.routes[0].name}, its cheapest" if control is None else control.name
    wrong = (control or table.routes[0]).score_N < 0.5
    if not wrong.any():
        return None
    method, mixed = (float(scores[wrong].mean()) for scores in (choice.score_N, mixture.score_N))
    return HardGroup(control=told, n=int(wrong.sum()), method=method, mixture=mixed)


def _spread(choice: Choice) -> CostSpread | None:
    if not math.isfinite(choice.cost):
        return None
    low, high = float(choice.cost_N.min()), float(choice.cost_N.max())
    return CostSpread(mean=choice.cost, p95=float(np.percentile(choice.cost_N, 95)), low=low, high=high)


def _measured(table: RouteTable, route: Fixed, share: float = 0.0) -> MeasuredRoute:
    cost = _finite(float(route.cost_N.mean()))
    return MeasuredRoute(name=route.name, cost=cost, accuracy=table.mean(route.score_N), share=share)


def _shares(table: RouteTable, choice: Choice) -> dict[str, float]:
    """Of the samples with a picture, by the route that they took."""
    taken = choice.route_N[choice.route_N >= 0]
    counts = np.bincount(taken, minlength=len(table.routes))
    return {route.name: int(n) / len(taken) for route, n in zip(table.routes, counts, strict=True) if n}


def _is_pyramid(one: Material, method: Material) -> bool:
    """Trained apart, the same for all samples and over as many sites; or without any reduction."""
    return one is not method and one.does_the_same_to_all and one.num_sites in (0, method.num_sites)


def _shows_smaller_pictures(one: Material) -> bool:
    return one.method in method_names() and find_method(one.method).resizes


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
