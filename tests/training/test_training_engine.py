"""Schedule, parameter groups, and what the engine is built from."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dpn_platform.config.schema import TrainConfig
from dpn_platform.training.engine import parameter_groups, schedule_factor


def test_schedule_warms_up_and_ends_near_zero() -> None:
    train = TrainConfig(steps=100, warmup_ratio=0.1)

    factors = [schedule_factor(step, train) for step in range(100)]

    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert all(later < earlier for earlier, later in zip(factors[10:], factors[11:], strict=False))
    assert 0 < factors[-1] < 0.001


def test_groups_have_their_own_rates(build_tiny_model) -> None:
    model = build_tiny_model("dpn")

    groups = parameter_groups(model, TrainConfig(lr=1e-3, vision_lr=1e-4, router_lr=1e-2))

    assert {group["name"]: group["lr"] for group in groups} == {"vision": 1e-4, "base": 1e-3, "router": 1e-2}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_rate_zero_freezes_the_tower_and_dense_has_no_router_group(build_tiny_model) -> None:
    model = build_tiny_model("dense")

    groups = parameter_groups(model, TrainConfig(vision_lr=0))

    assert [group["name"] for group in groups] == ["base"]
    assert not any(parameter.requires_grad for parameter in model.model.vision_tower.parameters())


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
