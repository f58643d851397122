"""Methods by name. A new rival is one file in `peers/`, one line here, one test and one YAML."""

from __future__ import annotations

from collections.abc import Callable

from dpn_model.methods.contract import TokenReducer
from dpn_model.methods.dpn.reducer import DynamicPoolingExperts
from dpn_model.methods.method import Method
from dpn_model.methods.random_drop.reducer import RandomDrop
from dpn_model.methods.random_kernel.reducer import RandomKernelPooling
from dpn_model.methods.static.reducer import StaticPooling

METHODS: dict[str, Callable[[int, Method, int], TokenReducer] | None] = {
    "dense": None,
    "dpn": DynamicPoolingExperts,
    "static": StaticPooling,
    "random_kernel": RandomKernelPooling,
    "random_drop": RandomDrop,
}


def build_reducers(method: Method, num_layers: int, hidden_size: int) -> dict[int, TokenReducer]:
    """The method's reducer at each of its sites, keyed by 1-based layer; it sees that site's experts and kernel.

    Raises:
        ValueError: unknown method, or sites that do not fit the decoder.
    """
    if method.name not in METHODS:
        raise ValueError(f"unknown method {method.name!r}; allowed: {', '.join(METHODS)}")
    build = METHODS[method.name]
    if build is None:
        return {}
    return {layer: build(layer, own, hidden_size) for layer, own in method.by_site(num_layers).items()}
