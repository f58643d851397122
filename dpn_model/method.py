"""What a method is configured with: names, sites, experts, router, loss. Plain data, checked on creation.

Spec: base-models A.4 (paper against release, options and defaults).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kernel = tuple[int, int]


def parse_kernel(name: str) -> Kernel:
    """(height, width) of a kernel written like "1x2".

    Raises:
        ValueError: not of that form, or zero.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name)
    if match is None:
        raise ValueError(f"unknown kernel {name!r}; write height x width, for example 1x1, 1x2, 2x2")
    return int(match[1]), int(match[2])


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class RoutingLoss:
    """Eq. 6 and 7: weight * max(0, target - value of the decisions), C = log2(kernel area)."""

    weight: float = 0.01
    target: float = 1.5
    value: Literal["top1", "expectation"] = "top1"
    aggregation: Literal["batch", "site", "sample"] = "batch"

    def __post_init__(self) -> None:
        _check_choice("routing_loss.value", self.value, ("top1", "expectation"))
        _check_choice("routing_loss.aggregation", self.aggregation, ("batch", "site", "sample"))


@dataclass(frozen=True)
class Method:
    """A token-reduction method and where it acts.

    Attributes:
        name: a key of `registry.METHODS`.
        sites: "after layer N", 1-based, ascending; None means 1/4, 1/2 and 3/4 of the depth.
        experts: dpn: pooling kernels.
        kernel: static: the kernel used at every site.
        keep_ratio: random_drop: share of the visual tokens kept at every site.
        router: dpn: "v1" (LayerNorm, Linear, GELU, Linear) or "linear" (spec A.3, v2).
        temperature: dpn: divides router logits.
        selection: dpn, training only: "sample", "top1" or "gumbel"; inference takes the most probable expert.
        scaling: dpn: pooled tokens times the winning probability ("on"), not ("off"), or times p / stop_grad(p).
        router_gradient: dpn: the language loss reaches the router through the scaling alone ("scale", as in the paper),
            or also through the score function ("score", see `pyramid.score_gradient`).
        min_tokens: dpn: an expert that would leave an image fewer tokens is not feasible.
        positions: "contiguous" renumbers after a reduction, "keep" keeps the window's first position.
        seed: random_drop: of the drawn subsets.
    """

    name: str = "dpn"
    sites: tuple[int, ...] | None = None
    experts: tuple[str, ...] = ("1x1", "1x2", "2x2")
    kernel: str = "2x2"
    keep_ratio: float = 0.5
    router: Literal["v1", "linear"] = "v1"
    temperature: float = 10.0
    selection: Literal["sample", "top1", "gumbel"] = "sample"
    scaling: Literal["on", "off", "straight_through"] = "on"
    router_gradient: Literal["scale", "score"] = "scale"
    min_tokens: int = 1
    positions: Literal["contiguous", "keep"] = "contiguous"
    seed: int = 0
    routing_loss: RoutingLoss = field(default_factory=RoutingLoss)

    def __post_init__(self) -> None:
        _check_choice("router", self.router, ("v1", "linear"))
        _check_choice("selection", self.selection, ("sample", "top1", "gumbel"))
        _check_choice("scaling", self.scaling, ("on", "off", "straight_through"))
        _check_choice("router_gradient", self.router_gradient, ("scale", "score"))
        _check_choice("positions", self.positions, ("contiguous", "keep"))
        for kernel in (*self.experts, self.kernel):
            parse_kernel(kernel)
        if not self.experts:
            raise ValueError("experts is empty; name at least one kernel, for example 1x1")
        if self.temperature <= 0:
            raise ValueError(f"temperature = {self.temperature}; it must be above 0")

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """Sites for a decoder of `num_layers`, checked.

        Raises:
            ValueError: a site is repeated, or not in 1..num_layers - 1 (after the last layer nothing is saved).
        """
        if self.name == "dense":
            return ()
        sites = self.sites or tuple(round(num_layers * quarter / 4) for quarter in (1, 2, 3))
        bad = [site for site in sites if not 1 <= site < num_layers]
        if bad or len(set(sites)) != len(sites):
            what = f"{bad[0]} is out of range" if bad else "one is repeated"
            raise ValueError(f"sites = {list(sites)}: {what}; allowed: different layers from 1 to {num_layers - 1}")
        return tuple(sorted(sites))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Method:
        """Inverse of `to_dict`; lists become tuples."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        if isinstance(values.get("routing_loss"), dict):
            values["routing_loss"] = RoutingLoss(**values["routing_loss"])
        return cls(**values)
