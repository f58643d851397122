"""The `pooling` section of the authors' config.json becomes a method, or an error that names the field."""

from __future__ import annotations

import re

import pytest

from dpn_model import Method, RoutingLoss
from dpn_model.weights.authors_pooling import method_of_pooling

KERNELS = [[1, 1], [1, 2], [2, 2]]
RELEASED = {
    "type": "adaptive",
    "layers": [{"index": index, "kernel_size": KERNELS, "stride": KERNELS} for index in (7, 15, 23)],
    "function": "max",
    "location": "post",
    "prepooling": False,
    "router_version": "v1",
}


def test_released_section() -> None:
    """Layers count from 0 there and from 1 here; the hinge's weight is the one in the code."""
    expected = Method(name="dpn", sites=(8, 16, 24), routing_loss=RoutingLoss(weight=0.001))
    assert method_of_pooling(RELEASED) == expected
    assert method_of_pooling(RELEASED | {"router_version": "v2"}).router == "linear"


def test_static_section() -> None:
    layers = [{"index": index, "kernel_size": 2, "stride": 2} for index in (9, 19)]
    method = method_of_pooling(RELEASED | {"type": "static", "layers": layers})
    assert (method.name, method.sites, method.kernel) == ("static", (10, 20), "2x2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "pre"}, "pooling.location = 'pre'; allowed: 'post'"),
        ({"type": "random"}, "pooling.type = 'random'; allowed: 'adaptive', 'static'"),
        ({"type": "static"}, "kernel_size names 3 kernels; static pooling has one"),
        ({"function": "avg"}, "pooling.function = 'avg'; allowed: 'max'"),
        ({"prepooling": True}, "pooling.prepooling = True; allowed: False"),
        ({"router_version": "v3"}, "pooling.router_version = 'v3'; allowed: 'v1', 'v2'"),
        ({"layers": []}, "pooling.layers is empty"),
        (
            {"layers": [{"index": 1, "kernel_size": [1, 2]}, {"index": 2, "kernel_size": [1, 4]}]},
            "kernel_size differs between layers",
        ),
    ],
)
def test_section_without_counterpart_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        method_of_pooling(RELEASED | change)
