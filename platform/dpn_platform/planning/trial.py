"""One trial's plan: what its method does to tokens, FLOPs, memory and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.bases.shapes import model_shape
from dpn_model.methods.spec import Planned
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.training import TrainConfig
from dpn_platform.planning import base_model, memory, methods, states
from dpn_platform.planning.activations import UnitBytes
from dpn_platform.planning.compute import PlannedPasses, SampleMeans, training_flops


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share.

    Attributes:
        base: configuration of the base model.
        train: the recipe.
        means: the average sample.
        unit: bytes of activations per unit of work.
        world_sizes: numbers of devices to tell memory for.
    """

    base: DpnConfig
    train: TrainConfig
    means: SampleMeans
    unit: UnitBytes
    world_sizes: Sequence[int]


def plan_trial(setting: Setting, choices: Sequence[MethodConfig]) -> dict[str, Any]:
    """The plan of one trial, as JSON values; where a search has the choice, from the cheapest to the dearest.

    Raises:
        DpnError: a method that does not fit the base.
    """
    text = round(setting.means.text_tokens)
    planned, method = methods.widest_plan(setting.base, choices, text)
    cost = methods.method_cost(setting.base, planned)
    model = base_model.meta_model(setting.base, method, setting.train)
    forward = methods.forward_bill(setting.base, planned)
    parameters = base_model.parameters_of(model)
    by_part = {**base_model.parameters_by_part(model), "trained": parameters.trained, "total": parameters.total}
    if parameters.adapters:
        by_part["adapters, in the language model"] = parameters.adapters
    return _plain(
        {
            **cost,
            "abilities": methods.abilities(method),
            "forward_per_sample": forward,
            "training_flops_per_sample": _training_flops(setting, planned, model, parameters),
            "parameters": by_part,
            **_memory(setting, planned, parameters),
            "checkpoints": _checkpoints(parameters, setting.train),
        }
    )


def _training_flops(
    setting: Setting, planned: Planned, model: DpnForConditionalGeneration, parameters: states.Parameters
) -> dict[str, Any]:

    shape = model_shape(setting.base.base)
    passes = PlannedPasses.of(
        trains_vision=base_model.trains_vision(model),
        checkpointed=setting.train.activation_checkpointing,
        trains_decoder=base_model.trains_decoder(model),
    )
    adapters, by_route = parameters.adapters, {}
    for route, ledger in zip(planned._fields, planned, strict=True):
        parts = training_flops(shape, ledger, setting.means, passes, adapters)
        by_route[route] = {**parts, "total": sum(parts.values())}
    return by_route


def _memory(setting: Setting, planned: Planned, parameters: states.Parameters) -> dict[str, Any]:
    stages = [(layers, load.stream.visual) for layers, load in planned.dearest.stages]
    activations = memory.micro_batch_memory(setting.unit, setting.train, stages, setting.means)
    return {
        "activations": activations,
        "memory": memory.device_memory(parameters, setting.train, activations),
        "alternatives": memory.alternatives(parameters, setting.train, activations, setting.world_sizes),
    }


def _checkpoints(parameters: states.Parameters, train: TrainConfig) -> dict[str, int]:
    return {
        "bytes_each": states.checkpoint_bytes(parameters, train),
        "bytes_of_export": states.export_bytes(parameters),
        "bytes_kept": states.kept_bytes(parameters, train),
    }


def _plain(value: Any) -> Any:
    """Data classes to dictionaries, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value
