"""Reads the `pooling` section of the release that DPN's authors published, as a method's settings (base-models A.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpn_model.methods.dpn.settings import RoutingLoss
from dpn_model.methods.registry import Method
from dpn_model.methods.settings import MethodSettings

#: weight of the hinge in both stored revisions of the release
RELEASE_LOSS_WEIGHT = 0.001
_ROUTERS = {"v1": "v1", "v2": "linear"}


def method_of_pooling(pooling: Mapping[str, Any]) -> MethodSettings:
    """The method a released checkpoint was trained with.

    Args:
        pooling: `type`, `layers` (each with a 0-based `index` and `kernel_size`), `function`, `location`, `prepooling`,
            `router_version`.

    Raises:
        ValueError: a value that has no counterpart here.
    """
    _check(pooling, "function", ("max",))
    _check(pooling, "location", ("post",))
    _check(pooling, "prepooling", (False, None))
    kind = _check(pooling, "type", ("adaptive", "static"))
    layers = pooling.get("layers") or ()
    if not layers:
        raise ValueError("pooling.layers is empty; expected at least one layer with index and kernel_size")
    sites = tuple(int(layer["index"]) + 1 for layer in layers)
    sets = {tuple(_kernel_name(kernel) for kernel in _as_list(layer["kernel_size"])) for layer in layers}
    if len(sets) != 1:
        raise ValueError("pooling.layers: kernel_size differs between layers; one set for all is allowed")
    kernels = sets.pop()
    if kind == "static":
        if len(kernels) != 1:
            raise ValueError(f"pooling.layers: kernel_size names {len(kernels)} kernels; static pooling has one")
        return Method(name="static", sites=sites, kernel=kernels[0])
    router = _ROUTERS[_check(pooling, "router_version", tuple(_ROUTERS))]
    loss = RoutingLoss(weight=RELEASE_LOSS_WEIGHT)
    return Method(name="dpn", sites=sites, experts=kernels, router=router, routing_loss=loss)


def _check(pooling: Mapping[str, Any], field: str, allowed: tuple[Any, ...]) -> Any:
    value = pooling.get(field, allowed[0])
    if value not in allowed:
        raise ValueError(f"pooling.{field} = {value!r}; allowed: {', '.join(map(repr, allowed))}")
    return value


def _as_list(kernel_size: Any) -> list[Any]:
    """A layer's kernels: a list of kernels, or one number (a square)."""
    return kernel_size if isinstance(kernel_size, list) else [kernel_size]


def _kernel_name(kernel: Any) -> str:
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return f"{height}x{width}"
