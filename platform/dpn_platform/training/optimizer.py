"""What is trained, how fast and by which optimiser: parts of the model with rates of their own, and the schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.sentinel import is_needed

#: parts of the model by what the names of their parameters begin with, in transformers' families; the first that fits
#: decides, and all the rest is the language model
PREFIXES = {
    "model.multi_modal_projector.": "projector",
    "model.object_projector.": "projector",
    "model.connector.": "projector",
    "model.image_newline": "projector",
    "model.visual.merger.": "projector",
    "model.visual.deepstack_merger_list.": "projector",
    "model.visual.": "vision",
    "model.vision_model.": "vision",
    "model.vision_tower.": "vision",
    "reducers.": "router",
    "patches.": "router",
    "selector.": "router",
}
LANGUAGE_MODEL, EMBEDDING, SLOW_VISION = "llm", "embedding", "slow_vision"
PARTS = (LANGUAGE_MODEL, *dict.fromkeys(PREFIXES.values()))
#: of parts, what may have a rate of its own: the words, and the slow of two towers
INNER = {
    "model.language_model.embed_tokens.": EMBEDDING,
    "lm_head.": EMBEDDING,
    "model.vision_tower.slow.": SLOW_VISION,
}
#: in the names of an adapter's parameters, as peft writes them
ADAPTER = ".lora_"


def part_of(name: str) -> str:
    """The part, one of `PARTS`, that the parameter of this name belongs to."""
    return next((part for prefix, part in PREFIXES.items() if name.startswith(prefix)), LANGUAGE_MODEL)


def peak_rates(train: TrainConfig) -> dict[str, float]:
    """Peak learning rate of every part; 0: it is frozen."""
    own = {"projector": train.projector_lr, "vision": train.vision_lr, "router": train.router_lr}
    rates = {LANGUAGE_MODEL: train.lr} | {part: train.lr if rate is None else rate for part, rate in own.items()}
    inner = {EMBEDDING: train.embedding_lr, SLOW_VISION: train.slow_vision_lr}
    return rates | {part: rate for part, rate in inner.items() if rate is not None}


def is_word(name: str) -> bool:
    """Whether the parameter of this name is the embedding or the head."""
    return any(name.startswith(prefix) for prefix, part in INNER.items() if part == EMBEDDING)


def trained_part(name: str, rates: Mapping[str, float]) -> str:
    """The part whose rate a parameter has: an inner one where that has its own, else `part_of`."""
    inner = next((part for prefix, part in INNER.items() if name.startswith(prefix)), None)
    return part_of(name) if inner is None or inner not in rates else inner


def parameter_groups(model: torch.nn.Module, train: TrainConfig) -> list[dict[str, Any]]:
    """One group per trained part, with its name; everything else is frozen.

    Of a language model with adapters these alone are trained. Weight decay spares norms, biases and whatever else has
    one dimension, as in Hugging Face's and so LLaVA's trainer; a part then has two groups of one name.

    Raises:
        DpnError: nothing is left to train.
    """
    rates = peak_rates(train)
    members: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = trained_part(name, rates)
        is_base = part == LANGUAGE_MODEL and train.lora is not None and ADAPTER not in name
        parameter.requires_grad_(rates[part] > 0 and not is_base)
        if parameter.requires_grad:
            members.setdefault((part, train.weight_decay > 0 and parameter.ndim > 1), []).append(parameter)
    if not members:
        raise DpnError(
            "train: nothing is trained; allowed: lr, projector_lr, vision_lr or router_lr above 0, for a part that the "
            "model has; or embedding_lr, slow_vision_lr"
        )
    return [
        {
            "params": members[part, decays],
            "lr": rates[part],
            "weight_decay": train.weight_decay if decays else 0.0,
            "name": part,
        }
        for part in (*PARTS, EMBEDDING, SLOW_VISION)
        for decays in (True, False)
        if (part, decays) in members
    ]


def build_optimizer(model: torch.nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameter groups; freezes what is not trained.

    Elementwise rules alone: ZeRO hands the optimiser flat pieces of the weights, which have lost their shape.
    """
    groups = parameter_groups(model, train)
    # Fused kernels can leave out a step by themselves. Offloaded states are stepped by the host: torch's fused AdamW
    # needs no compiler there, DeepSpeed's own does.
    leaves_out = is_needed(train)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=train.betas[0], fused=leaves_out or None)
    return torch.optim.AdamW(groups, betas=train.betas, fused=leaves_out or train.offload != "none" or None)


def schedule_factor(step: int, train: TrainConfig) -> float:
    """Share of the peak learning rate at `step` (0-based): linear warm-up, then cosine to zero."""
    warmup = max(1, round(train.steps * train.warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, train.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_schedule(optimizer: torch.optim.Optimizer, train: TrainConfig) -> torch.optim.lr_scheduler.LambdaLR:
    """Every group's learning rate times `schedule_factor`."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule_factor(step, train))
