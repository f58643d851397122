"""One trial's plan: what its method does to tokens, FLOPs, memory and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.flops import UNITS_PER_MAC
from dpn_model.cost.ledger import LayerLoad, Ledger, sample_cost
from dpn_model.methods.spec import image_rows
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.training import TrainConfig
from dpn_platform.planning import base_model, memory, methods, states
from dpn_platform.planning.activations import UnitBytes
from dpn_platform.planning.compute import PlannedPasses, SampleMeans, training_flops
from dpn_platform.planning.route_walks import all_routes


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


def plan_trial(setting: Setting, choices: Sequence[MethodConfig], *, on_all_routes: bool = False) -> dict[str, Any]:
    """The plan of one trial, as JSON values; where a search has the choice, from the cheapest to the dearest.

    Args:
        setting: of the experiment.
        choices: of the method's settings.
        on_all_routes: it is evaluated on every route too.

    Raises:
        DpnError: a method that does not fit the base.
    """
    text = round(setting.means.text_tokens)
    planned, method = methods.widest_plan(setting.base, choices, text)
    cost = methods.method_cost(setting.base, planned)
    routes = methods.training_routes(setting.base, choices, text)
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
            "training_flops_per_sample": _training_flops(setting, routes, model, parameters),
            "lesson": _lesson(setting, method),
            "all_routes": all_routes(setting.base, choices, text) if on_all_routes else None,
            "parameters": by_part,
            **_memory(setting, routes["dearest"], parameters),
            "checkpoints": _checkpoints(parameters, setting.train),
        }
    )


def _training_flops(
    setting: Setting,
    routes: dict[str, list[Ledger]],
    model: DpnForConditionalGeneration,
    parameters: states.Parameters,
) -> dict[str, Any]:

    shape = model_shape(setting.base.base)
    passes = PlannedPasses.of(
        trains_vision=base_model.trains_vision(model),
        checkpointed=setting.train.activation_checkpointing,
        trains_decoder=base_model.trains_decoder(model),
    )
    adapters, by_route = parameters.adapters, {}
    for route, ledgers in routes.items():
        parts = training_flops(shape, ledgers, setting.means, passes, adapters)
        by_route[route] = {**parts, "total": sum(parts.values())}
    return by_route


def _lesson(setting: Setting, method: MethodConfig) -> dict[str, float]:
    """What is looked at behind the training: samples, operations of one, and how many dense passes that is."""
    shape, text = model_shape(setting.base.base), round(setting.means.text_tokens)
    learns = method.spec.learns
    samples, macs = (0, 0) if learns is None else learns(method.settings, shape, text)
    if not samples:
        return {"samples": 0, "flops_per_sample": 0.0, "dense_passes": 0.0}
    dense = sample_cost(shape.decoder, (), (math.prod(image_rows(shape)),), text, "swiglu").total
    flops = UNITS_PER_MAC["true"] * (macs + (shape.vision_macs or 0))
    return {"samples": samples, "flops_per_sample": float(flops), "dense_passes": macs / dense}


def _memory(setting: Setting, ledgers: Sequence[Ledger], parameters: states.Parameters) -> dict[str, Any]:
    copies = [_between_sites(ledger) for ledger in ledgers]
    activations = memory.micro_batch_memory(setting.unit, setting.train, copies, setting.means)
    return {
        "activations": activations,
        "memory": memory.device_memory(parameters, setting.train, activations),
        "alternatives": memory.alternatives(parameters, setting.train, activations, setting.world_sizes),
    }


def _between_sites(ledger: Ledger) -> list[tuple[int, int]]:
    """(layers, visual tokens): a layer that runs some of the rows in the stream is no site, none of them is lost."""
    found: list[tuple[int, LayerLoad]] = []
    for layers, load in ledger.stages:
        if found and load.stream == found[-1][1].stream and load != found[-1][1]:
            layers += found.pop()[0]
        found.append((layers, load))
    return [(layers, load.stream.visual) for layers, load in found]


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
