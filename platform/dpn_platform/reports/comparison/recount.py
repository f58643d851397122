"""FLOPs of the paper's rows counted anew, from each method's own plan: eq. 8 without text, as the paper counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dpn_model.bases.catalogue import BASES, base_shape
from dpn_model.methods.registry import find_method, method_names, settings_of

_GIGA = 1e9
#: the paper prints whole numbers, some rounded and some cut off
_SLACK_G = 1.0


class Recount(NamedTuple):
    """10^9 multiply-accumulates of one sample on a method's cheapest and dearest route; equal where all cost alike."""

    cheapest: float
    dearest: float

    def allows(self, reported_g: float) -> bool:
        """Whether a printed number, the mean over samples, can come of these settings."""
        return self.cheapest - _SLACK_G <= reported_g <= self.dearest + _SLACK_G


def recount(counted_as: Mapping[str, Any]) -> Recount | None:
    """The decoder's prefill by eq. 8; None where the base has no name here, or the method is not registered.

    Args:
        counted_as: "base", "method", and its "settings".

    Raises:
        ValueError: settings that the registered method does not take.
    """
    base, method = counted_as["base"], counted_as["method"]
    if base not in BASES or method not in method_names():
        return None
    shape = base_shape(base)
    planned = find_method(method).plan(settings_of({"name": method, **counted_as["settings"]}), shape, 0)
    return Recount(*(ledger.prefill(shape.decoder, "eq8").total / _GIGA for ledger in planned))
