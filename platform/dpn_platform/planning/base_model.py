"""The base a plan is made for: its configuration, and the model on torch's meta device, which takes no memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.schema import TrainConfig
from dpn_platform.planning.states import Parameters

if TYPE_CHECKING:
    from dpn_model import DpnConfig, DpnForConditionalGeneration

#: the part of the model each parameter belongs to, by what its name begins with
PARTS = {
    "model.vision_tower.": "vision tower",
    "model.multi_modal_projector.": "projector",
    "reducers.": "routers",
}


def base_config(base: str) -> DpnConfig:
    """Configuration of the base model a run starts from; a named base needs no weights for that.

    Raises:
        ConfigError: no from_pretrained folder there and no base of that name, or a folder whose configuration
            transformers cannot read.
    """
    from dpn_model.bases.catalogue import BASES
    from dpn_platform.training.base import TINY, build_tiny, find_folder

    if base == TINY:
        return build_tiny()[0].config
    if "://" in base:
        from dpn_platform.storage import read_bytes

        with tempfile.TemporaryDirectory(prefix="dpn-plan-") as folder:
            (Path(folder) / "config.json").write_bytes(read_bytes(f"{base.rstrip('/')}/config.json"))
            return _read_config(Path(folder), base)
    if (find_folder(base) / "config.json").is_file():
        return _read_config(find_folder(base), base)
    if base in BASES:
        return BASES[base]()
    names = ", ".join(BASES)
    raise ConfigError(
        f"model.base = '{base}': no from_pretrained folder there; named bases that can be planned: {names}"
    )


def has_weights(base: str) -> bool:
    """Whether a run could start from `base`: all but a name of the catalogue."""
    from dpn_model.bases.catalogue import BASES
    from dpn_platform.training.base import TINY, find_folder

    return base == TINY or base not in BASES or (find_folder(base) / "config.json").is_file()


def meta_model(config: DpnConfig, method: MethodConfig, train: TrainConfig) -> DpnForConditionalGeneration:
    """The model a run would train, in the run's precision, with its trained parameters marked; without memory.

    Raises:
        ConfigError: a method that does not fit the base.
    """
    import torch

    from dpn_model import DpnForConditionalGeneration
    from dpn_platform.training.base import method_of
    from dpn_platform.training.engine import parameter_groups

    try:
        with torch.device("meta"):
            model = DpnForConditionalGeneration(config)
            model.configure_method(method_of(method, train.seed))
    except ValueError as error:
        raise ConfigError(f"method.{error}") from None
    parameter_groups(model, train)
    return model.to(torch.bfloat16 if train.precision == "bf16" else torch.float32).train()


def parameters_of(model: DpnForConditionalGeneration) -> Parameters:
    """How many parameters a run trains and how many stay as they are."""
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return Parameters(sizes[True], sizes[False])


def parameters_by_part(model: DpnForConditionalGeneration) -> dict[str, int]:
    """Parameters of the vision tower, projector, language model and routers."""
    sizes = dict.fromkeys(("vision tower", "projector", "language model", "routers"), 0)
    for name, parameter in model.named_parameters():
        part = next((part for prefix, part in PARTS.items() if name.startswith(prefix)), "language model")
        sizes[part] += parameter.numel()
    return sizes


def trains_vision(model: DpnForConditionalGeneration) -> bool:
    """Whether any parameter of the vision tower is trained."""
    return any(parameter.requires_grad for parameter in model.model.vision_tower.parameters())


def router_macs(model: DpnForConditionalGeneration) -> int:
    """Multiply-accumulates of one decision of every router."""
    from dpn_model.pyramid.router import Router

    return sum(module.macs for module in model.reducers.modules() if isinstance(module, Router))


def _read_config(folder: Path, base: str) -> DpnConfig:
    from transformers import AutoConfig

    from dpn_model import DpnConfig

    try:
        loaded = AutoConfig.from_pretrained(str(folder))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"model.base = '{base}': config.json cannot be planned with: {reason}") from None
    return loaded if isinstance(loaded, DpnConfig) else DpnConfig(base_config=loaded)
