"""Complexity of pictures: measures by hand, thresholds to kernels, one decision for all sites."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.methods.complexity.reducer import measure
from dpn_model.methods.probe import PIXELS, TowerPicture, VisionProbe
from dpn_model.methods.spectra import energies, values_holding
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture

MakeBatch = Callable[..., dict[str, Tensor]]


def shown(pixels: Tensor, features: Tensor | None = None) -> VisionProbe:
    return VisionProbe([TowerPicture(torch.eye(4) if features is None else features, (2, 2), {PIXELS: pixels})])


def test_gradient_by_hand() -> None:
    """Columns 0 and 1 in turn: every difference across is 1, every one down 0."""
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(3, 8, 8)
    assert measure("gradient", shown(stripes)).tolist() == [0.5]
    assert measure("gradient", shown(torch.ones(3, 8, 8))).tolist() == [0.0]


def test_spectrum_by_hand() -> None:
    """Columns in turn have the highest frequency alone, and one wave over 16 pixels lies below the bound."""
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(3, 16, 16)
    wave = torch.sin(2 * torch.pi * torch.arange(16) / 16).expand(3, 16, 16)
    assert measure("spectrum", shown(stripes)).item() == pytest.approx(1.0)
    assert measure("spectrum", shown(wave)).item() == pytest.approx(0.0, abs=1e-9)
    assert measure("spectrum", shown(3 * wave + stripes)).item() == pytest.approx(0.25 / (0.25 + 4.5))
    assert measure("spectrum", shown(torch.ones(3, 16, 16))).item() == 0.0


def test_features_by_hand() -> None:
    """Four equal singular values: four of them hold nine tenths; one alone holds all of one direction."""
    pixels = torch.zeros(3, 8, 8)
    assert measure("features", shown(pixels)).tolist() == [1.0]
    assert measure("features", shown(pixels, torch.ones(4, 4))).tolist() == [0.25]


def test_energies_are_squares_of_singular_values() -> None:
    for shape in ((2, 5, 3), (2, 3, 5)):
        rows = torch.randn(shape)
        torch.testing.assert_close(energies(rows), torch.linalg.svdvals(rows.double()).square(), atol=1e-5, rtol=1e-5)
    assert values_holding(torch.tensor([[6.0, 3, 1], [0, 0, 0]]).double(), 0.9).tolist() == [2, 1]


@torch.no_grad()
def test_levels_choose_kernels_for_all_sites(model: DpnForConditionalGeneration, processor: DpnProcessor) -> None:
    """Noise, a flat picture, and both in one sample, whose mean decides."""
    flat, noise = picture(0).point(lambda value: 90), picture(1)
    model.configure_method(Method("complexity", thresholds=(0.5, 2.0), sites=(2, 4)))
    samples = [
        processor.encode_prompt("<image>\nis it", [noise], router=False),
        processor.encode_prompt("<image>\nis it", [flat], router=False),
        processor.encode_prompt("<image> <image>\nis it", [flat, noise], router=False),
        processor.encode_prompt("is it", [], router=False),
    ]
    batch = processor.collate(samples)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = normalise(batch["pixel_values"])
    routing = model(**inputs).routing
    assert [routing.route(sample) for sample in range(4)] == [("1x1",) * 2, ("2x2",) * 2, ("1x2",) * 2, ("-",) * 2]
    model.configure_method(Method("complexity", thresholds=(0.5, 2.0), sites=(2, 4), min_tokens=10))
    assert model(**inputs).routing.route(1) == ("2x2", "1x1"), "too few tokens are left for anything but the finest"


def test_thresholds_fit_the_experts() -> None:
    with pytest.raises(ValueError, match="tell 3 experts apart; experts = \\['1x1', '2x2'\\]"):
        Method("complexity", experts=("1x1", "2x2"))
    with pytest.raises(ValueError, match="allowed: ascending"):
        Method("complexity", thresholds=(0.2, 0.1))
