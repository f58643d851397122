"""Routing costs one device-to-host copy per site, and nothing else does (spec performance 1.5, T9)."""

from __future__ import annotations

import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.decoder import run_decoder
from dpn_model.methods.settings import MethodSettings
from tests.benchmarks.host_copies import HostCopies


@pytest.mark.parametrize(
    ("method", "copies"),
    [
        (Method(name="dense"), 0),
        (Method(name="static"), 0),
        (Method(name="dpn"), 3),
        (Method(name="dpn", pool="avg", rounding="ceil", scaling="straight_through"), 3),
        (Method(name="dpn", routing_token="last", scaling="off"), 3),
    ],
    ids=lambda value: value.name if isinstance(value, MethodSettings) else None,
)
@pytest.mark.parametrize("training", [False, True])
def test_device_to_host_copies_of_a_forward(
    model: DpnForConditionalGeneration, training_batch, method: Method, copies: int, training: bool
) -> None:
    model.configure_method(method)
    model.train(training)
    batch = training_batch()
    packed = model.pack(batch["input_ids"], batch["attention_mask"], batch["pixel_values"], None)
    with HostCopies() as counted:
        run_decoder(model.model.language_model, packed.state, model.parts)
    assert counted.by_name == ({"tolist": copies} if copies else {})


def test_the_counter_sees_what_waits() -> None:
    values = torch.tensor([1, 0, 2])
    with HostCopies() as counted:
        values.tolist()
        values[values > 0]
        int(values.max())
        torch.nonzero(values)
    assert counted.total == 4
