"""The DeepSpeed engine: parameter groups, schedule, ZeRO, consolidated weights. Knows nothing of Ray or storage."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_platform.config.schema import TrainConfig


def schedule_factor(step: int, train: TrainConfig) -> float:
    """Share of the peak learning rate at `step` (0-based): linear warm-up, then cosine to zero."""
    warmup = max(1, round(train.steps * train.warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, train.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(model: DpnForConditionalGeneration, train: TrainConfig) -> list[dict[str, Any]]:
    """Vision tower, base (projector, decoder, head) and routers, each with its own learning rate; lr 0 freezes."""
    members: dict[str, list[torch.nn.Parameter]] = {"vision": [], "base": [], "router": []}
    for name, parameter in model.named_parameters():
        kind = "vision" if "vision_tower" in name else "router" if name.startswith("reducers.") else "base"
        members[kind].append(parameter)
    rates = {
        "vision": train.lr if train.vision_lr is None else train.vision_lr,
        "base": train.lr,
        "router": train.lr if train.router_lr is None else train.router_lr,
    }
    for kind, parameters in members.items():
        for parameter in parameters:
            parameter.requires_grad_(rates[kind] > 0)
    return [
        {"params": parameters, "lr": rates[kind], "name": kind}
        for kind, parameters in members.items()
        if parameters and rates[kind] > 0
    ]


def build_optimizer(model: DpnForConditionalGeneration, train: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the parameter groups; freezes what has learning rate 0."""
    return torch.optim.AdamW(parameter_groups(model, train), betas=train.betas, weight_decay=train.weight_decay)


def build_schedule(optimizer: torch.optim.Optimizer, train: TrainConfig) -> torch.optim.lr_scheduler.LambdaLR:
    """Every group's learning rate times `schedule_factor`."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule_factor(step, train))


def build_engine(model: DpnForConditionalGeneration, train: TrainConfig, *, universal: bool = False) -> Any:
    """A DeepSpeed engine around the model, in the process group that is already there (Ray Train's).

    Args:
        model: on the host.
        train: the run.
        universal: the checkpoint it will load is a universal one, see `resharding`.
    """
    # Said, not searched for: a run on CPUs stays there although its machine may have a GPU.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if train.use_gpu else "cpu")
    deepspeed = import_deepspeed()
    config = {
        "train_batch_size": train.global_batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": {"stage": train.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": train.precision == "bf16"},
        "steps_per_print": 10**9,
        "checkpoint": {"load_universal": universal},
    }
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=build_optimizer(model, train),
        lr_scheduler=lambda optimizer: build_schedule(optimizer, train),
        config=config,
        dist_init_required=False,
    )
    return engine


def import_deepspeed() -> Any:
    """DeepSpeed without what it would drag in or compile."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with _hidden("mlflow"):  # its autotuner's only: half of the import time
        import deepspeed

    # The first optimiser step imports Muon, which asks for compilation on import: 4 s of Inductor in every worker.
    with _set("TORCHDYNAMO_DISABLE", "1"), contextlib.suppress(ImportError):
        import deepspeed.runtime.zero.muon.original_muon
    # The shared-memory collectives are compiled at the first start (40 s, needs a compiler) and gain nothing on gloo.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed


def consolidated_weights(engine: Any) -> dict[str, Tensor] | None:
    """All weights as fp32 on the host of rank 0; None on the others. Collective.

    Under ZeRO-3 one weight at a time is gathered: no device holds the whole model. Under bf16 these are the rounded
    weights the model computes with, not the optimiser's masters.
    """
    is_writer = dist.get_rank() == 0
    if engine.zero_optimization_stage() < 3:
        state = engine.module.state_dict()
        return {name: tensor.detach().float().cpu() for name, tensor in state.items()} if is_writer else None
    gathered = import_deepspeed().zero.GatheredParameters
    weights = {}
    for name, tensor in engine.module.state_dict(keep_vars=True).items():
        with gathered([tensor]) if hasattr(tensor, "ds_id") else contextlib.nullcontext():
            if is_writer:
                weights[name] = tensor.detach().to("cpu", torch.float32, copy=True)
    return weights if is_writer else None


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes `import package` fail inside, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


@contextlib.contextmanager
def _set(variable: str, value: str) -> Iterator[None]:
    """Sets an environment variable inside."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
