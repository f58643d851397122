"""E-AdaPrune: every picture's number follows from its own spectrum, within bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.eadaprune.spec import EAdaPruneSettings
from dpn_model.methods.registry import find_method

MakeBatch = Callable[..., dict[str, Tensor]]


@torch.no_grad()
def test_counts_follow_the_spectrum_of_each_picture(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(["is it", "is there a red circle ?", "red"])
    batch["pixel_values"][1] = batch["pixel_values"][1, :, :1, :1]  # a flat picture
    model.configure_method(Method("eadaprune", energy=0.98, least=1.0 / 64))
    routing = model(**batch).routing
    features = model.model.vision_tower(batch["pixel_values"], output_hidden_states=True).hidden_states[-1][:, 1:]
    energy = torch.linalg.svdvals(features.double()).square()
    shares = energy.cumsum(dim=1) / energy.sum(dim=1, keepdim=True)
    expected = [int((one < 0.98).sum()) + 1 for one in shares]
    assert [routing.records[0].tokens_out[sample] for sample in range(3)] == expected
    assert expected[1] < min(expected[0], expected[2])
    assert [routing.route(sample) for sample in range(3)] == [(str(count),) for count in expected]


@torch.no_grad()
def test_what_is_kept_is_what_the_class_token_looks_at(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(["is it"])
    model.configure_method(Method("eadaprune", least=20.0, most=20.0))
    ours = model(**batch).logits
    model.configure_method(Method("fastervlm", keep=20.0))
    torch.testing.assert_close(ours, model(**batch).logits, atol=1e-5, rtol=1e-5)


def test_bounds() -> None:
    assert EAdaPruneSettings().bounds(576, 1024) == (16, 576)
    assert EAdaPruneSettings(most=0.5).bounds(64, 16) == (2, 16), "there are no more singular values than columns"
    with pytest.raises(ValueError, match="least = 100 and most = 0.1 are 100 and 58 of 576 tokens"):
        EAdaPruneSettings(least=100.0, most=0.1).bounds(576, 1024)
    low, high = find_method("eadaprune").plan(Method("eadaprune"), base_shape("llava-1.5-7b"), 40)
    assert (low.mean_visual_tokens(), high.mean_visual_tokens()) == (16, 576)
