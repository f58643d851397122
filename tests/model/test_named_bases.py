"""Every named base at its real size: parameters counted on the meta device, cost against torch's counter."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import BASES, base_shape
from dpn_model.bases.llava_hr.model import LlavaHrModel
from dpn_model.bases.shapes import model_shape
from dpn_model.bases.towers.clip_shape import clip_tower
from dpn_model.configuration import base_config
from dpn_model.cost.ledger import sample_cost

# Spec: Vicuna (at 32000 words), projector (base-models, first table and B.1); the 64 words transformers adds stand in
# the embedding and in lm_head.
VICUNA = {"llava-1.5-7b": (6_738_415_616, 4096, 20_979_712), "llava-1.5-13b": (13_015_864_320, 5120, 31_467_520)}
CLIP_L_336 = 303_507_456  # "about 303.5 M": 24 layers, embeddings, both norms


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", VICUNA)
def test_llava_has_the_parameters_of_the_spec(name: str) -> None:
    vicuna, width, projector = VICUNA[name]
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))
    assert num_parameters(model.model.language_model) + num_parameters(model.lm_head) == vicuna + 2 * 64 * width
    assert num_parameters(model.model.multi_modal_projector) == projector
    assert num_parameters(model.model.vision_tower) == CLIP_L_336
    assert num_parameters(model) == vicuna + 2 * 64 * width + projector + CLIP_L_336
    assert model.num_visual_tokens() == 576
    special = {model.image_token_id, model.config.router_token_id, model.config.base.text_config.pad_token_id}
    assert special == {32000, 32001, 32002}


def test_tiny_has_about_a_million_parameters() -> None:
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config("tiny"))
    assert num_parameters(model) == 966_944
    assert model.num_visual_tokens() == 64


@pytest.mark.parametrize("name", BASES)
def test_the_account_knows_the_shape_of_what_is_built(name: str) -> None:
    shape = base_shape(name)
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))
    assert shape == model.model_shape


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("llava-1.5-7b", 2986.1), ("llava-hr-7b", 5428.8), ("llava-hr-x-13b", 10522.7)],
)
def test_dense_cost_is_that_of_the_papers_table(name: str, gmacs: float) -> None:
    shape = base_shape(name)
    tokens = shape.image_grid[0] * shape.image_grid[1]
    cost = sample_cost(shape.decoder, (), (tokens,), 0, "eq8")
    assert cost.dense / 1e9 == pytest.approx(gmacs, abs=0.05)  # printed with one decimal


def test_unknown_base_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"model = 'llava-7b' is not a named base; allowed: tiny, llava-1.5-7b"):
        base_shape("llava-7b")


def counted(run: nn.Module, *inputs: torch.Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # the one kernel the counter sees everywhere
        run(*inputs)
    return int(counter.get_total_flops())


def test_the_clip_of_llava_costs_what_torch_counts() -> None:
    base = base_config("llava-1.5-7b")
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base)
        pixels = torch.empty(1, 3, 336, 336)
    assert counted(model.model.vision_tower, pixels) == 2 * clip_tower(base.base.vision_config).macs(24 * 24)


@pytest.mark.parametrize("name", ["llava-hr-7b", "llava-hr-x-13b"])
def test_both_towers_of_llava_hr_cost_what_torch_counts(name: str) -> None:
    """ConvNeXt, CLIP, the three adapters and the merge, at real size."""
    config = base_config(name)
    with torch.device("meta"):
        model = LlavaHrModel(config.base)
        pixels = torch.empty(1, 3, 1024, 1024)
    shape = base_shape(name)
    assert shape.image_grid == (32, 32)
    assert counted(model.vision_tower, pixels) == 2 * shape.vision_macs


def test_the_light_half_needs_neither_torch_nor_transformers() -> None:
    light = "dpn_model.bases.catalogue", "dpn_model.cost.bill", "dpn_model.methods.dpn.planned_route"
    code = f"import sys, {', '.join(light)}; print({{'torch', 'transformers', 'numpy'}} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


@pytest.mark.parametrize("name", BASES)
def test_plain_data_is_what_transformers_has_of_it(name: str) -> None:
    def told(values: dict[str, Any], config: PreTrainedConfig) -> None:
        for field, value in values.items():
            theirs = getattr(config, field)
            if isinstance(value, dict) and not isinstance(theirs, dict):
                told(value, theirs)
            else:
                assert theirs == value, field

    plain, config = BASES[name], base_config(name)
    told(plain.base_config, config.base)
    assert config.router_token_id == plain.router_token_id
    assert model_shape(config.base) == base_shape(name)
