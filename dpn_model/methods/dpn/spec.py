"""DPN as the platform sees it: plan, search space, abilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.flops import layer_macs
from dpn_model.methods.dpn.router_cost import router_macs
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.pooling.settings import feasible_sizes, plan_pooling
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


def plan(settings: DpnSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The cheapest and the dearest route, every router's decision included."""
    decoder, kind = shape.decoder, (settings.router, settings.router_hidden_divisor)
    sites = settings.kernels_by_site(decoder.num_layers)
    macs = sum(router_macs(decoder.hidden_size, len(kernels), *kind) for kernels in sites.values())
    return plan_pooling(settings, shape, text_tokens, {"router": macs})


def plan_training(settings: DpnSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """Every copy of a sandwich: the dearest route, the cheapest, and drawn ones; the routers look at all of them."""
    planned = plan(settings, shape, text_tokens)
    if not settings.sandwich.drawn:
        return [planned]
    fixed = [Planned(route, route) for route in (planned.dearest, planned.cheapest)]
    return [*fixed, *[planned] * settings.sandwich.drawn]


def plan_walk(settings: DpnSettings, shape: ModelShape, text_tokens: int) -> int:
    """Every layer once for every distinct beginning of a route; what a picture cannot take runs as what leaves most."""
    layers = shape.decoder.num_layers
    grids, before, macs = [image_rows(shape)], 0, 0
    for site, kernels in (*settings.kernels_by_site(layers).items(), (layers, ())):
        per_layer = [layer_macs(math.prod(grid) + text_tokens, shape.decoder, "swiglu") for grid in grids]
        macs, before = macs + (site - before) * sum(per_layer), site
        grids = [size for grid in grids for size in _branches(settings, kernels, grid)]
    return macs


def _branches(settings: DpnSettings, kernels: Sequence[str], grid: tuple[int, int]) -> list[tuple[int, int]]:
    if not kernels:
        return []
    feasible = feasible_sizes(settings, kernels, *grid)
    most = max(feasible.values(), key=math.prod)
    return [feasible.get(kernel, most) for kernel in kernels]


def plan_lesson(settings: DpnSettings, shape: ModelShape, text_tokens: int) -> tuple[int, int]:
    """Samples whose routes are measured, and one's walk."""
    return settings.route_fit.samples, plan_walk(settings, shape, text_tokens)


SPEC = MethodSpec(
    settings=DpnSettings,
    label="DPN",
    plan=plan,
    parts="dpn_model.methods.dpn.reducer:build",
    search={
        "routing_loss_weight": Dimension("routing_loss.weight", 0.01, 1.0, is_log=True),
        "routing_loss_target": Dimension("routing_loss.target", 0.5, 1.8),
        "experts": Dimension("experts", choices=(("1x1", "1x2", "2x2"),)),
    },
    needs_training="stage 2",
    is_query_aware=True,
    chooses="per sample",
    needs_router_token=True,
    has_dial=True,
    routes=lambda settings, shape: list(product(*settings.kernels_by_site(shape.decoder.num_layers).values())),
    walks=plan_walk,
    trains=plan_training,
    learns=plan_lesson,
)
