"""A route written by hand, and what a sample that took it would have run: cost without a model, or torch."""

from __future__ import annotations

import math

from dpn_model.cost.bill import ModelShape, SampleRun
from dpn_model.methods.dpn.router_cost import router_macs
from dpn_model.methods.method import Method, parse_kernel
from dpn_model.methods.pooling.grid import pooled_grid

#: the digits of the spec's routing patterns (base-models A.2.1)
KERNEL_OF_AREA = {"1": "1x1", "2": "1x2", "4": "2x2"}


def parse_route(text: str) -> tuple[str, ...]:
    """Kernels of a route like "4,2,1" (areas) or "2x2,1x2,1x1", one entry per site.

    Raises:
        ValueError: an entry that is neither.
    """
    kernels = []
    for number, entry in enumerate(part.strip() for part in text.split(",")):
        kernel = KERNEL_OF_AREA.get(entry, entry)
        try:
            parse_kernel(kernel)
        except ValueError:
            allowed = f"areas {', '.join(KERNEL_OF_AREA)}, or kernels such as 1x2, 2x1"
            raise ValueError(f"route[{number}] = {entry!r}; allowed: {allowed}") from None
        kernels.append(kernel)
    return tuple(kernels)


def planned_run(shape: ModelShape, route: tuple[str, ...], text_tokens: int) -> SampleRun:
    """One image pooled along `route` at the default sites (1/4, 1/2 and 3/4 of the depth), by routers of kind v1.

    Raises:
        ValueError: a wrong number of entries, or a kernel larger than the grid that is left.
    """
    method = Method(name="dpn")
    sites = method.resolve_sites(shape.decoder.num_layers)
    if len(route) != len(sites):
        after = ", ".join(map(str, sites))
        raise ValueError(f"route {','.join(route)!r} has {len(route)} entries; allowed: {len(sites)} (after {after})")
    assert shape.image_grid is not None, "named bases have one"
    grids = [shape.image_grid]
    for number, kernel in enumerate(route):
        try:
            grids.append(pooled_grid(*grids[-1], parse_kernel(kernel)))
        except ValueError as error:
            raise ValueError(f"route[{number}]: {error}") from None
    macs = len(sites) * router_macs(shape.decoder.hidden_size, len(method.experts), method.router)
    return SampleRun(sites, tuple(map(math.prod, grids)), text_tokens, num_images=1, method_macs=macs)
