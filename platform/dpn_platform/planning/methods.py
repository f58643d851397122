"""What runs, and what each method does to the tokens of a sample: sites, cheapest and dearest route, FLOPs ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpn_model import DpnConfig, Method
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.bill import SampleRun, cost_parts
from dpn_model.cost.flops import CONVENTIONS, MAC_CONVENTIONS, sample_cost
from dpn_model.methods.method import parse_kernel
from dpn_model.methods.pooling.grid import pooled_size
from dpn_platform.config.controls import method_of_control
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.schema import ExperimentConfig

#: of a picture where every one has its own grid: as many tokens as LLaVA-1.5's
ASSUMED_GRID = (24, 24)


@dataclass(frozen=True)
class Bounds:
    """The cheapest and the dearest route a method can take."""

    low: float
    high: float


def batch_arithmetic(config: ExperimentConfig) -> dict[str, int]:
    """Steps and samples of one run."""
    train = config.train
    return {
        "steps": train.steps,
        "global_batch_size": train.global_batch_size,
        "micro_batch_size": train.micro_batch_size,
        "num_workers": train.num_workers,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "samples": train.steps * train.global_batch_size,
        "checkpoints": -(-train.steps // train.checkpoint_every_steps),
    }


def planned_methods(config: ExperimentConfig) -> list[tuple[str, MethodConfig, int]]:
    """(name, method, number of trials) of what will run: the controls and DPN's trials, or the one run."""
    if config.sweep is None:
        return [(config.method.name, config.method, 1)]
    methods = [(name, _control(config.method, name), 1) for name in config.sweep.controls]
    widest = sorted({kernel for experts in config.sweep.search.experts for kernel in experts})
    dpn = config.method.model_copy(update={"name": "dpn", "experts": tuple(widest)})
    return [*methods, ("dpn", dpn, config.sweep.num_trials)]


def image_grid(base: DpnConfig) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width), before any reduction; assumed where each has its own grid."""
    return model_shape(base.base).image_grid or ASSUMED_GRID


def assumption(base: DpnConfig) -> str:
    """What is assumed of a picture where every one has its own grid, as the end of a sentence; else nothing."""
    if model_shape(base.base).image_grid is not None:
        return ""
    height, width = ASSUMED_GRID
    return f"; {height} x {width} visual tokens per picture are assumed, and the vision tower is not counted"


def method_cost(base: DpnConfig, method: MethodConfig, text_tokens: int) -> dict[str, Any]:
    """Sites, FLOPs ratios and multiply-accumulates of one sample's prefill, cheapest and dearest route.

    Args:
        base: of the model.
        method: what is attached to it.
        text_tokens: of one sample.

    Raises:
        ConfigError: sites or kernels that do not fit the model.
    """
    decoder = model_shape(base.base).decoder
    grid = image_grid(base)
    settings = Method.from_dict(method.model_dump(mode="json"))
    try:
        sites = settings.by_site(decoder.num_layers)
    except ValueError as error:
        raise ConfigError(f"method.{error}") from None
    routes = [_tokens_per_stage(list(sites.values()), grid, cheapest) for cheapest in (True, False)]
    cost: dict[str, Any] = {
        "sites": list(sites),
        "visual_tokens_cheapest": routes[0],
        "visual_tokens_dearest": routes[1],
        "visual_tokens_at_the_end": Bounds(routes[0][-1], routes[1][-1]),
    }
    for convention in MAC_CONVENTIONS:
        low, high = (sample_cost(decoder, list(sites), route, text_tokens, convention) for route in routes)
        cost[f"flops_ratio_{convention}"] = Bounds(low.ratio, high.ratio)
        cost[f"prefill_macs_{convention}"] = Bounds(low.total, high.total)
    return cost


def forward_bill(base: DpnConfig, cost: dict[str, Any], text_tokens: int, router_macs: int) -> dict[str, Any]:
    """One sample's forward pass with everything around the decoder, in each convention's own unit.

    Args:
        base: of the model.
        cost: what `method_cost` told.
        text_tokens: of one sample.
        router_macs: multiply-accumulates of the method's routers.

    Returns:
        By convention: vision, projector, decoder, in all, and that as a ratio to the dense model's.
    """
    shape, sites = model_shape(base.base), tuple(cost["sites"])
    shape = replace(shape, vision_macs=shape.vision_macs or 0, projector_macs=shape.projector_macs or 0)
    routes = [tuple(cost[f"visual_tokens_{route}"]) for route in ("cheapest", "dearest")]
    bill: dict[str, Any] = {}
    for convention in CONVENTIONS:
        low, high = (
            cost_parts(shape, SampleRun(sites, route, text_tokens, 1, router_macs), convention) for route in routes
        )
        dense = cost_parts(shape, SampleRun((), routes[1][:1], text_tokens, 1), convention)
        bill[convention] = {
            "vision": low.vision,
            "projector": low.projector,
            "decoder": Bounds(low.prefill, high.prefill),
            "total": Bounds(low.total, high.total),
            "ratio_with_vision": Bounds(low.total / dense.total, high.total / dense.total),
        }
    return bill


def _tokens_per_stage(methods: Sequence[Method], grid: tuple[int, int], cheapest: bool) -> list[int]:
    """Visual tokens before the first site and after each, on the cheapest or the dearest route."""
    height, width = grid
    counts = [height * width]
    for method in methods:
        if method.name == "random_drop":
            counts.append(max(1, round(counts[-1] * method.keep_ratio)))
        else:
            height, width = _pooled(height, width, method, cheapest)
            counts.append(height * width)
    return counts


def _pooled(height: int, width: int, method: Method, cheapest: bool) -> tuple[int, int]:

    is_static = method.name == "static"
    kernels = (method.kernel,) if is_static else method.experts
    sizes = {kernel: pooled_size(height, width, parse_kernel(kernel), method.rounding) for kernel in kernels}
    floors = {kernel: 1 if kernel == "1x1" else method.min_tokens for kernel in kernels}
    feasible = [size for kernel, size in sizes.items() if size[0] * size[1] >= floors[kernel]]
    if not feasible:
        grid = f"a grid of {height}x{width} visual tokens"
        raise ConfigError(f"method.{'kernel' if is_static else 'experts'} = {', '.join(kernels)}: too large for {grid}")
    choose = min if cheapest else max
    return choose(feasible, key=lambda size: size[0] * size[1])


def _control(method: MethodConfig, name: str) -> MethodConfig:
    values = {**method.model_dump(), "site_kernels": None, **method_of_control(name)}
    return MethodConfig.model_validate(values)
