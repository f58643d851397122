"""A route written by hand, and the ledger of a sample that takes it: cost without running a model."""

from __future__ import annotations

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.dpn.router_cost import router_macs
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.pooling.grid import pooled_grid
from dpn_model.methods.settings import parse_kernel

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


def planned_run(shape: ModelShape, route: tuple[str, ...], text_tokens: int) -> Ledger:
    """One image pooled along `route` at the default sites (1/4, 1/2 and 3/4 of the depth), by routers of kind v1.

    Raises:
        ValueError: a wrong number of entries, or a kernel larger than the grid that is left.
    """
    settings, decoder = DpnSettings(), shape.decoder
    sites = settings.resolve_sites(decoder.num_layers)
    if len(route) != len(sites):
        after = ", ".join(map(str, sites))
        raise ValueError(f"route {','.join(route)!r} has {len(route)} entries; allowed: {len(sites)} (after {after})")
    assert shape.image_grid is not None, "named bases have one"
    height, width = shape.image_grid
    tokens = [height * width]
    for number, name in enumerate(route):
        try:
            height, width = pooled_grid(height, width, parse_kernel(name))
        except ValueError as error:
            raise ValueError(f"route[{number}]: {error}") from None
        tokens.append(height * width)
    macs = len(sites) * router_macs(decoder.hidden_size, len(settings.experts), settings.router)
    return Ledger.of_stages(decoder.num_layers, sites, tokens, text_tokens, num_images=1, macs={"router": macs})
