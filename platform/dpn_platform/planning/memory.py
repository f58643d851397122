"""Memory of one device, part by part, as the recipe has it and under other ZeRO stages and numbers of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dpn_platform.config.training import TrainConfig
from dpn_platform.planning.activations import UnitBytes, activation_bytes
from dpn_platform.planning.compute import SampleMeans
from dpn_platform.planning.states import ZERO_STAGES, Parameters, state_bytes


def micro_batch_memory(
    unit: UnitBytes, train: TrainConfig, copies: Sequence[Sequence[tuple[int, int]]], means: SampleMeans
) -> dict[str, Any]:
    """Activations of one micro-batch in which every sample has a picture and takes the dearest route.

    Args:
        unit: bytes kept per token, picture and supervised row.
        train: its micro-batch.
        copies: for every time a sample goes through the decoder, (decoder layers, visual tokens) between sites.
        means: the average sample. Mean lengths: a micro-batch of long samples keeps more.
    """
    size = train.micro_batch_size
    supervised = round(size * means.supervised_tokens)
    found = {}
    for name, checkpointed in (("kept", False), ("checkpointed", True)):
        parts: Counter[str] = Counter()
        for number, stages in enumerate(copies):
            images = size if number == 0 else 0  # tower and projector run once
            tokens = [round(size * (seen + means.text_tokens)) for count, seen in stages for _ in range(count)]
            visual = [size * seen for _, seen in stages]
            value = activation_bytes(
                unit, tokens, visual, images=images, supervised=supervised, checkpointed=checkpointed
            )
            parts.update(asdict(value))
        found[name] = {**parts, "total": parts.total()}
    return found


def device_memory(parameters: Parameters, train: TrainConfig, activations: dict[str, Any]) -> dict[str, int]:
    """Bytes of one device by part; the context of CUDA and what its allocator wastes come on top."""
    states = state_bytes(parameters, train)
    own = activations["checkpointed" if train.activation_checkpointing else "kept"]["total"]
    return {**asdict(states), "activations": own, "total": states.total + own}


def alternatives(
    parameters: Parameters,
    train: TrainConfig,
    activations: dict[str, Any],
    world_sizes: Sequence[int],
) -> list[dict[str, int]]:
    """The same micro-batch under every ZeRO stage, on other numbers of devices."""
    return [
        {
            "zero_stage": stage,
            "num_workers": workers,
            **device_memory(
                parameters, train.model_copy(update={"zero_stage": stage, "num_workers": workers}), activations
            ),
        }
        for stage in ZERO_STAGES
        for workers in world_sizes
    ]
