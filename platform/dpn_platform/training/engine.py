"""The DeepSpeed engine: parameter groups, schedule, ZeRO. Knows nothing of Ray, data or storage."""

from __future__ import annotations

import math
from typing import Any

import deepspeed
import torch

from dpn_model import DpnForConditionalGeneration
from dpn_platform.config.schema import TrainConfig

# The shared-memory collectives are compiled at the first start (40 s, needs a compiler) and gain nothing on gloo.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


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


def schedule_factor(step: int, train: TrainConfig) -> float:
    """Share of the peak learning rate at `step` (0-based): linear warm-up, then cosine to zero."""
    warmup = max(1, round(train.steps * train.warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, train.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_engine(model: DpnForConditionalGeneration, train: TrainConfig, world_size: int) -> Any:
    """A DeepSpeed engine around the model, in the process group that Ray Train has set up."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, train), betas=train.betas, weight_decay=train.weight_decay
    )
    config = {
        "train_batch_size": train.micro_batch_size * train.gradient_accumulation_steps * world_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": {"stage": train.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": train.precision == "bf16"},
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda wrapped: torch.optim.lr_scheduler.LambdaLR(
            wrapped, lambda step: schedule_factor(step, train)
        ),
        config=config,
    )
    return engine
