"""The model a plan is made for, on torch's meta device, which takes no memory."""

from __future__ import annotations

from copy import deepcopy

import torch

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.training import TrainConfig
from dpn_platform.planning.states import Parameters
from dpn_platform.training.base import method_of
from dpn_platform.training.lora import attach_adapters
from dpn_platform.training.optimizer import ADAPTER, is_word, parameter_groups, part_of

#: how a plan calls the parts of the model
PARTS = {"vision": "vision tower", "projector": "projector", "llm": "language model", "router": "routers"}


def meta_model(config: DpnConfig, method: MethodConfig, train: TrainConfig) -> DpnForConditionalGeneration:
    """The model a run would train, in the run's precision, with its trained parameters marked; without memory.

    Raises:
        DpnError: a method or adapters that do not fit the base, or nothing that is trained.
    """
    try:
        with torch.device("meta"):
            model = DpnForConditionalGeneration(deepcopy(config))  # a model writes its method into its config
            model.configure_method(method_of(method, train.seed))
            if train.lora is not None:
                attach_adapters(model, train.lora)
    except ValueError as error:
        raise ConfigError(f"method.{error}") from None
    parameter_groups(model, train)
    return model.to(torch.bfloat16 if train.precision == "bf16" else torch.float32).train()


def parameters_of(model: DpnForConditionalGeneration) -> Parameters:
    """How many parameters a run trains and how many stay as they are."""
    sizes, adapters = {True: 0, False: 0}, 0
    for name, parameter in model.named_parameters():
        sizes[parameter.requires_grad] += parameter.numel()
        adapters += parameter.numel() if ADAPTER in name else 0
    return Parameters(sizes[True], sizes[False], adapters)


def parameters_by_part(model: DpnForConditionalGeneration) -> dict[str, int]:
    """Parameters of the vision tower, projector, language model and routers."""
    sizes = dict.fromkeys(PARTS.values(), 0)
    for name, parameter in model.named_parameters():
        sizes[PARTS[part_of(name)]] += parameter.numel()
    return sizes


def trains_vision(model: DpnForConditionalGeneration) -> bool:
    """Whether any parameter of the vision tower is trained."""
    return any(parameter.requires_grad and part_of(name) == "vision" for name, parameter in model.named_parameters())


def trains_decoder(model: DpnForConditionalGeneration) -> bool:
    """Whether the decoder's own weights are trained, not adapters beside them."""
    return any(
        parameter.requires_grad and part_of(name) == "llm" and ADAPTER not in name and not is_word(name)
        for name, parameter in model.named_parameters()
    )
