"""Schedule, parameter groups, adapters, and what the engine is built from."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import LoraSettings, TrainConfig
from dpn_platform.training.loop import to_device
from dpn_platform.training.lora import attach_adapters, merged_weights
from dpn_platform.training.optimizer import parameter_groups, schedule_factor
from tests.model import toy_chatrex


def test_schedule_warms_up_and_ends_near_zero() -> None:
    train = TrainConfig(steps=100, warmup_ratio=0.1)

    factors = [schedule_factor(step, train) for step in range(100)]

    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert all(later < earlier for earlier, later in zip(factors[10:], factors[11:], strict=False))
    assert 0 < factors[-1] < 0.001


def test_parts_have_their_own_rates(build_tiny_model) -> None:
    model = build_tiny_model("dpn")

    groups = parameter_groups(model, TrainConfig(lr=1e-3, projector_lr=2e-3, vision_lr=1e-4, router_lr=1e-2))

    rates = {"llm": 1e-3, "projector": 2e-3, "vision": 1e-4, "router": 1e-2}
    assert {group["name"]: group["lr"] for group in groups} == rates
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_rate_zero_freezes_a_part_and_dense_has_no_router(build_tiny_model) -> None:
    model = build_tiny_model("dense")
    groups = parameter_groups(model, TrainConfig(lr=0, projector_lr=1e-3))
    assert [group["name"] for group in groups] == ["projector"]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "multi_modal_projector" in name}


def test_words_and_the_slow_tower_may_have_rates_of_their_own() -> None:
    model = toy_chatrex.built(toy_chatrex.toy_config())
    plain = parameter_groups(model, TrainConfig(lr=1e-3, vision_lr=0))
    assert [group["name"] for group in plain] == ["llm", "projector"]
    train = TrainConfig(lr=0, projector_lr=1e-3, embedding_lr=2e-3, vision_lr=1e-5, slow_vision_lr=0)
    groups = {group["name"]: group for group in parameter_groups(model, train)}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "embedding": 2e-3,
        "projector": 1e-3,
        "vision": 1e-5,
    }
    assert {"model.language_model.embed_tokens.weight", "lm_head.weight", "model.object_projector.0.weight"} <= trained
    assert any(name.startswith("model.vision_tower.fast.") for name in trained)
    assert not any(name.startswith(("model.vision_tower.slow.", "model.language_model.layers.")) for name in trained)


def test_nothing_to_train_is_refused(build_tiny_model) -> None:
    with pytest.raises(DpnError, match="nothing is trained; allowed: lr, projector_lr, vision_lr or router_lr above 0"):
        parameter_groups(build_tiny_model("dense"), TrainConfig(lr=0, router_lr=1e-3))


def test_weight_decay_spares_norms_and_biases(build_tiny_model) -> None:
    model = build_tiny_model("dpn")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = [
        names[id(parameter)]
        for group in parameter_groups(model, TrainConfig(weight_decay=0.1))
        for parameter in group["params"]
        if group["weight_decay"] == 0
    ]
    assert len(spared) > 50
    assert all("norm" in name or name.endswith((".bias", "mlp1.0.weight", "class_embedding")) for name in spared)


def test_adapters_stand_for_the_language_model(build_tiny_model) -> None:
    model = build_tiny_model("dpn")
    train = TrainConfig(lr=2e-4, projector_lr=2e-5, vision_lr=0, lora=LoraSettings(rank=4))
    attach_adapters(model, train.lora)
    groups = {group["name"]: group for group in parameter_groups(model, train)}
    # Two matrices beside each of the seven linear layers of eight decoder layers.
    assert len(groups["llm"]["params"]) == 2 * 7 * 8
    assert sorted(groups) == ["llm", "projector", "router"]
    assert not model.lm_head.weight.requires_grad


def test_merged_weights_compute_the_same(build_tiny_model, build_batch) -> None:
    model, plain = build_tiny_model("dense"), build_tiny_model("dense").eval()
    attach_adapters(model, LoraSettings(rank=4, alpha=8))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    inputs = to_device(build_batch(range(4)), torch.device("cpu"), torch.float32)
    before = plain(**inputs).loss.item()
    plain.load_state_dict(merged_weights(model, model.state_dict()))
    adapted = model.eval()(**inputs).loss.item()
    assert plain(**inputs).loss.item() == pytest.approx(adapted, rel=1e-5)  # measured: equal
    assert abs(adapted - before) > 0.01


def test_adapters_of_layers_that_are_not_there_are_refused(build_tiny_model) -> None:
    with pytest.raises(DpnError, match="no linear layer c_attn; allowed: down_proj, gate_proj, k_proj, o_proj, q_proj"):
        attach_adapters(build_tiny_model("dense"), LoraSettings(target_modules=("q_proj", "c_attn")))


def test_deepspeed_is_imported_without_mlflow_and_inductor(repo_root) -> None:
    code = (
        "import os, sys; from dpn_platform.training.engine import import_deepspeed; import_deepspeed();"
        "assert not {'mlflow', 'torch._inductor.compile_fx'} & sys.modules.keys();"
        "assert 'deepspeed.runtime.zero.muon.original_muon' in sys.modules;"
        "assert 'TORCHDYNAMO_DISABLE' not in os.environ"
    )
    env_path = f"{repo_root / 'platform'}:{repo_root}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": env_path, "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
