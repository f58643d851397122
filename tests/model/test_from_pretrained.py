"""What `from_pretrained` may be asked, and what comes along from a base's folder beside its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from dpn_model import DpnForConditionalGeneration
from tests.model.test_imported_folders import CONFIGS, write


def test_how_a_base_generates_comes_along(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["clip"]())
    GenerationConfig(eos_token_id=[2, 5], pad_token_id=3).save_pretrained(tmp_path)
    DpnForConditionalGeneration.from_pretrained(tmp_path).save_pretrained(tmp_path / "ours")
    for folder in (tmp_path, tmp_path / "ours"):
        generation = DpnForConditionalGeneration.from_pretrained(folder).generation_config
        assert (generation.eos_token_id, generation.pad_token_id) == ([2, 5], 3)


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ({}, torch.float32),
        ({"dtype": "auto"}, torch.bfloat16),
        ({"torch_dtype": "float16"}, torch.float16),
        ({"dtype": torch.bfloat16}, torch.bfloat16),
    ],
)
def test_the_type_of_the_weights_is_the_one_asked_for(asked: dict, dtype: torch.dtype, tmp_path: Path) -> None:
    model = write(tmp_path, CONFIGS["clip"]())
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    DpnForConditionalGeneration.from_pretrained(tmp_path, dtype="auto").save_pretrained(tmp_path / "ours")
    for folder in (tmp_path, tmp_path / "ours"):
        ours = DpnForConditionalGeneration.from_pretrained(folder, **asked)
        assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
        assert ours.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
        assert torch.equal(ours.lm_head.weight, model.lm_head.weight.to(dtype))
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"device_map": "auto"}, "from_pretrained: device_map means nothing here; allowed: dtype, torch_dtype"),
        ({"dtype": "int8"}, "dtype = 'int8'; allowed: auto, float32"),
        ({"dtype": "float16", "torch_dtype": torch.float32}, "allowed: one of them"),
    ],
)
def test_other_arguments_are_refused(asked: dict, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        DpnForConditionalGeneration.from_pretrained(tmp_path, **asked)


def test_weights_in_other_numbers_are_refused(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["clip"]())
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(data | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ValueError, match="quantization_config is set"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
