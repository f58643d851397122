"""What a method is configured with: names, sites, experts, router, loss. Plain data, checked on creation.

Spec: base-models A.4 (paper against release, options and defaults).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
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


def _check_experts(name: str, experts: tuple[str, ...]) -> None:
    if not experts:
        raise ValueError(f"{name} is empty; name at least one kernel, for example 1x1")
    for kernel in experts:
        parse_kernel(kernel)
    if len(set(experts)) != len(experts):
        raise ValueError(f"{name} = {list(experts)}: one is repeated; allowed: different kernels")


@dataclass(frozen=True)
class RoutingLoss:
    """Eq. 6 and 7: weight * max(0, target - mean value of the decisions), in every reading of spec A.5.

    Attributes:
        weight: λ.
        target: t; it must move with `compression`.
        value: of one decision: "top1" C_j * p_j at the most probable expert j (the authors' code), "expectation" the
            sum of p_e * C_e, "expert_mean" that sum over the number of experts (eq. 6 to the letter).
        aggregation: mean over the whole batch and all sites, each site, or each sample, before the hinge.
        compression: C of an expert: log2 of its kernel's area {0, 1, 2}, the area {1, 2, 4}, its square root, or
            the mean stride {1, 1.5, 2}.
        is_detached: no gradient flows, as in the release under reentrant checkpointing.
    """

    weight: float = 0.01
    target: float = 1.5
    value: Literal["top1", "expectation", "expert_mean"] = "top1"
    aggregation: Literal["batch", "site", "sample"] = "batch"
    compression: Literal["log2_area", "area", "sqrt_area", "mean_stride"] = "log2_area"
    is_detached: bool = False

    def __post_init__(self) -> None:
        _check_choice("routing_loss.value", self.value, ("top1", "expectation", "expert_mean"))
        _check_choice("routing_loss.aggregation", self.aggregation, ("batch", "site", "sample"))
        allowed = ("log2_area", "area", "sqrt_area", "mean_stride")
        _check_choice("routing_loss.compression", self.compression, allowed)
        if not self.weight >= 0:
            raise ValueError(f"routing_loss.weight = {self.weight}; it must be 0 or above")


_CHOICES: dict[str, tuple[str, ...]] = {
    "pool": ("max", "avg", "conv"),
    "rounding": ("floor", "ceil"),
    "router": ("v1", "linear"),
    "router_init": ("release", "zero"),
    "routing_token": ("mean", "first", "last"),
    "selection": ("sample", "top1", "gumbel"),
    "scaling": ("on", "off", "straight_through"),
    "router_gradient": ("scale", "score"),
    "infeasible": ("renormalise", "resample"),
    "positions": ("contiguous", "keep"),
}

#: what `router_gradient: score` is the exact gradient with (`pyramid.score_gradient`)
SCORE_NEEDS: dict[str, tuple[str, ...]] = {
    "selection": ("sample",),
    "infeasible": ("renormalise",),
    "scaling": ("off", "on"),
}


@dataclass(frozen=True)
class Method:
    """A token-reduction method and where it acts.

    Attributes:
        name: a key of `registry.METHODS`.
        sites: "after layer N", 1-based; None means 1/4, 1/2 and 3/4 of the depth. "Before layer N" is site N - 1.
        experts: dpn, random_kernel: pooling kernels, height x width, of every site.
        site_experts: dpn, random_kernel: one expert set per entry of `sites`, in place of `experts`.
        kernel: static: the kernel used at every site.
        site_kernels: static: one kernel per entry of `sites`, in place of `kernel`.
        pool: what an expert makes of a window: its maximum, its mean, or a learned depthwise convolution that starts
            as the mean ("conv"). 1x1 is the identity in all three.
        rounding: "floor" drops a border that fills no window, "ceil" pools what is there (max and avg only).
        keep_ratio: random_drop: share of the visual tokens kept at every site.
        router: dpn: "v1" (LayerNorm, Linear, GELU, Linear) or "linear" (spec A.3, v2).
        router_hidden_divisor: dpn, v1: hidden width is the model's over this.
        router_init: dpn: "release" (uniform by fan-in) or "zero" (last matrix zero: all experts equally probable).
        routing_token: dpn: which routing tokens of a sample are read: their mean (the authors'), the first turn's or
            the last one's. All turns of a sample share its pictures, so they share one route. In training on several
            turns, "mean" and "last" let the first answer be read behind a route that later questions, and answers
            before them, had a say in; "first" is causal, and what a single question gives at inference. With one turn
            all three are the same.
        temperature: dpn: divides router logits.
        selection: dpn, training only: "sample", "top1" or "gumbel" (straight-through); inference takes the most
            probable expert.
        scaling: dpn: pooled tokens times the winning probability ("on"), not ("off"), or times p / stop_grad(p).
        router_gradient: dpn: the language loss reaches the router through the scaling alone ("scale", as in the paper),
            or also through the score function ("score", see `pyramid.score_gradient`). That one differentiates the
            expected language loss over drawn routes, so routes must be drawn from the probabilities it reads, and
            nothing else may stand for that gradient: it needs selection = sample, infeasible = renormalise, and
            scaling = off or on.
        min_tokens: pooling methods: an expert that would leave an image fewer tokens is not feasible, in training
            and inference alike; 1x1, which takes nothing away, always is.
        infeasible: dpn: probabilities are renormalised over the feasible experts, or stay as the router gave them
            while only feasible experts are drawn ("resample", the release).
        positions: "contiguous" renumbers after a reduction, "keep" keeps the window's first position.
        seed: of random_drop's subsets and random_kernel's draws at inference: another seed, another draw for every
            sample. What a run is trained with is its own seed.
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
    site_experts: tuple[tuple[str, ...], ...] | None = None
    site_kernels: tuple[str, ...] | None = None
    pool: Literal["max", "avg", "conv"] = "max"
    rounding: Literal["floor", "ceil"] = "floor"
    router_hidden_divisor: int = 4
    router_init: Literal["release", "zero"] = "release"
    routing_token: Literal["mean", "first", "last"] = "mean"
    infeasible: Literal["renormalise", "resample"] = "renormalise"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            _check_choice(name, getattr(self, name), allowed)
        _check_experts("experts", self.experts)
        for number, experts in enumerate(self.site_experts or ()):
            _check_experts(f"site_experts[{number}]", experts)
        for kernel in (self.kernel, *(self.site_kernels or ())):
            parse_kernel(kernel)
        if self.pool == "conv" and self.rounding == "ceil":
            raise ValueError("rounding = 'ceil': a convolution needs whole windows; allowed with pool = max, avg")
        if not self.temperature > 0:
            raise ValueError(f"temperature = {self.temperature}; it must be above 0")
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio = {self.keep_ratio}; it must be above 0 and at most 1")
        self._check_score()
        for name in ("min_tokens", "router_hidden_divisor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; it must be 1 or above")

    def _check_score(self) -> None:
        for name, allowed in SCORE_NEEDS.items():
            if self.router_gradient == "score" and (given := getattr(self, name)) not in allowed:
                raise ValueError(f"router_gradient = 'score' with {name} = {given!r}; allowed: {', '.join(allowed)}")

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """Sites for a decoder of `num_layers`, checked.

        Raises:
            ValueError: a site is repeated, or not in 1..num_layers - 1 (after the last layer nothing is saved).
        """
        if self.name == "dense":
            return ()
        sites = self.sites
        if sites is None:
            sites = tuple(round(num_layers * quarter / 4) for quarter in (1, 2, 3))
        bad = [site for site in sites if not 1 <= site < num_layers]
        if bad or len(set(sites)) != len(sites):
            what = f"{bad[0]} is out of range" if bad else "one is repeated"
            raise ValueError(f"sites = {list(sites)}: {what}; allowed: different layers from 1 to {num_layers - 1}")
        if not sites:
            raise ValueError("sites is empty; name at least one layer, or use method dense")
        return tuple(sorted(sites))

    def by_site(self, num_layers: int) -> dict[int, Method]:
        """The method as each site's reducer sees it: `experts` and `kernel` are the site's own. Ascending.

        Raises:
            ValueError: sites that do not fit the decoder, or another number of expert sets or kernels than of sites.
        """
        layers = self.resolve_sites(num_layers)
        as_written = self.sites or layers
        for name in ("site_experts", "site_kernels"):
            given = getattr(self, name)
            if given is not None and len(given) != len(layers):
                raise ValueError(f"{name} has {len(given)} entries; sites = {list(as_written)} needs {len(layers)}")
        methods = {}
        for layer in layers:
            place = as_written.index(layer)
            experts = self.experts if self.site_experts is None else self.site_experts[place]
            kernel = self.kernel if self.site_kernels is None else self.site_kernels[place]
            methods[layer] = replace(self, experts=experts, kernel=kernel, site_experts=None, site_kernels=None)
        return methods

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Method:
        """Inverse of `to_dict`; lists become tuples.

        Raises:
            ValueError: a setting that no method has, or a value it cannot take.
        """
        values: dict[str, Any] = {key: _with_tuples(value) for key, value in data.items()}
        _check_keys("method", values, cls)
        if isinstance(values.get("routing_loss"), dict):
            _check_keys("method.routing_loss", values["routing_loss"], RoutingLoss)
            values["routing_loss"] = RoutingLoss(**values["routing_loss"])
        return cls(**values)


def _with_tuples(value: Any) -> Any:
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _check_keys(name: str, values: dict[str, Any], owner: type[Method] | type[RoutingLoss]) -> None:
    allowed = [each.name for each in fields(owner)]
    unknown = [key for key in values if key not in allowed]
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; allowed: {', '.join(allowed)}")
