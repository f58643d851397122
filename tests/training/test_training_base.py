"""What a run starts from: folders, fresh weights by seed, and bases that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.training.base import build_model, build_tiny, reading_processor
from dpn_platform.training.base_folder import find_folder


def config(base: str = "tiny", seed: int = 0, **method: Any) -> ExperimentConfig:
    values = {"name": "test", "model": {"base": base}, "method": method, "train": {"seed": seed}}
    return parse_config(values, "test")


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (build_model(config(seed=seed))[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_folder_gives_its_weights_and_takes_the_method(tmp_path: Path, as_uri: bool) -> None:
    model, processor = build_model(config(name="dense"))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    loaded, _ = build_model(config(f"file://{tmp_path}" if as_uri else str(tmp_path), seed=5, name="dpn", sites=[2, 4]))

    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert sorted(loaded.reducers) == ["2", "4"]
    assert loaded.needs_router_token


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "no/such/folder"}, "no/such/folder"),
        ({"base": "file:///no/such/folder"}, "nothing there"),
        ({"name": "dpn", "sites": [9]}, "sites"),
        ({"name": "dpn", "experts": ["3by3"]}, "3by3"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DpnError, match=message):
        build_model(config(**values))


def test_adapters_are_attached_where_they_are_asked_for() -> None:
    values = {"name": "test", "model": {"base": "tiny"}, "train": {"lora": {"target_modules": ["q_proj", "v_proj"]}}}
    names = [name for name, _ in build_model(parse_config(values, "test"))[0].named_parameters() if ".lora_" in name]
    assert len(names) == 2 * 2 * 8
    values["train"]["lora"]["target_modules"] = ["c_attn"]
    with pytest.raises(DpnError, match="train.lora.target_modules: the language model has no linear layer c_attn"):
        build_model(parse_config(values, "test"))


def test_captions_are_read_plain_and_cropped_and_the_base_keeps_its_template() -> None:
    settings = parse_config({"name": "test", "model": {"template": "plain"}, "method": {"name": "dense"}}, "test").model
    _, processor = build_tiny()
    reading = reading_processor(processor, settings)
    picture = Image.new("RGB", (96, 48))
    sample = reading.encode_training([("<image>\nwhat is it ?", "red circle")], [picture], router=False)
    assert (reading.template, reading.aspect_ratio) == ("plain", "crop")
    assert processor.decode(sample.input_ids[sample.labels != -100].tolist()) == "red circle"
    assert len(sample.input_ids) == 1 + processor.tokens_per_image + int((sample.labels != -100).sum())
    assert processor.template == "short"
    assert reading_processor(processor, settings.model_copy(update={"template": None})) is processor


def test_relative_folders_are_meant_from_the_package(repo_root: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_folder("dpn_model/bases") == repo_root / "dpn_model" / "bases"
    assert find_folder("elsewhere") == Path("elsewhere")
