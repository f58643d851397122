"""What one checkpoint is evaluated as: itself, itself at a budget of its dial, or with another method attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_model.methods.registry import methods_with, settings_of
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import EvalConfig


@dataclass(frozen=True)
class Variant:
    """One way of running a checkpoint; all of them share its weights and its pictures' features.

    Attributes:
        name: in tables and file names; empty for the checkpoint as it is.
        budget: FLOPs ratio of the dial.
        method: settings of a method without weights that takes the place of the checkpoint's own.
        route: that every sample takes, whatever the checkpoint's method would choose.
    """

    name: str = ""
    budget: float | None = None
    method: Mapping[str, Any] | None = None
    route: tuple[str, ...] | None = None

    @property
    def told(self) -> str:
        """What a refusal calls it."""
        return self.name or ("" if self.method is None else str(self.method.get("name")))


AS_IT_IS = Variant()
#: what stands before a route in the name of the variant that takes it
ROUTE = "route-"
#: of one checkpoint, answered together
MOST_ROUTES = 256


def variants_of(settings: EvalConfig, main: Variant = AS_IT_IS) -> tuple[Variant, ...]:
    """The checkpoint as it is, or as `main` says, then a variant per budget and per method.

    Raises:
        DpnError: two of one name, or an unknown method or setting.
    """
    at_budgets = [Variant(f"budget-{budget:g}", budget=budget) for budget in settings.budgets]
    with_methods = [Variant(one.name, method=one.method) for one in settings.variants]
    found = (main, *at_budgets, *with_methods)
    names = [variant.name for variant in found]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DpnError(f"eval.variants: the name '{repeated[0]}' is given twice; every variant needs its own")
    for variant in found:
        try:
            if variant.method is not None:
                settings_of(variant.method)
        except ValueError as error:
            raise DpnError(f"variant '{variant.told}': {error}") from None
    return found


def on_every_route(routes: Sequence[tuple[str, ...]], uri: str) -> tuple[Variant, ...]:
    """A variant per route of the checkpoint at `uri`.

    Raises:
        DpnError: there are none, or too many.
    """
    if not routes:
        able = ", ".join(methods_with("takes_routes"))
        raise DpnError(f"{uri}: eval.routes = all, but its method takes no routes; allowed: method {able}")
    if len(routes) > MOST_ROUTES:
        raise DpnError(
            f"{uri}: eval.routes = all of a checkpoint with {len(routes)} routes; allowed: up to {MOST_ROUTES}, so "
            "train with fewer sites or experts"
        )
    return tuple(Variant(ROUTE + "-".join(route), route=route) for route in routes)


def check_variants(variants: Sequence[Variant], config: Mapping[str, Any], uri: str) -> None:
    """Refuses what the checkpoint cannot be run as, before anything is loaded.

    Args:
        variants: of `variants_of`.
        config: the checkpoint's config.json.
        uri: names it.

    Raises:
        DpnError: budgets of a checkpoint without a calibrated dial.
    """
    budgets = [variant.budget for variant in variants if variant.budget is not None]
    if budgets and not config.get("dial"):
        able = ", ".join(methods_with("has_dial"))
        raise DpnError(
            f"{uri}: budget {budgets[0]:g} needs a calibrated dial, which this checkpoint has not; train it with "
            f"method {able} and calibrate it (dpn_model.calibrate), or leave out eval.budgets"
        )
