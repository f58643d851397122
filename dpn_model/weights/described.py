"""The configuration of a from_pretrained folder, from config.json and the shapes of its tensors; nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig

from dpn_model.configuration import DpnConfig
from dpn_model.vision.image_side import GRIDDED_BASES
from dpn_model.weights.folder import spare_row
from dpn_model.weights.names import canonical_names
from dpn_model.weights.original import from_original, is_original
from dpn_model.weights.tensors import weight_files


def read_config(folder: Path) -> DpnConfig:
    """As `load_folder` finds it.

    Raises:
        FileNotFoundError: no config.json, or an original checkpoint without weights.
        ValueError: a kind of model that is not known here.
    """
    data = read_config_file(folder)
    if is_original(data):
        return from_original(data, canonical_names(read_shapes(folder)))[0]
    model_type = data.get("model_type")
    if model_type == "dpn":
        return DpnConfig(**{key: value for key, value in data.items() if key != "model_type"})
    if model_type == "llava":
        return DpnConfig(base_config=data, router_token_id=spare_row(data))
    if model_type in GRIDDED_BASES:
        return DpnConfig(base_config=AutoConfig.from_pretrained(str(folder)))
    allowed = ", ".join(("dpn", "llava", *GRIDDED_BASES))
    raise ValueError(f"{folder / 'config.json'}: model_type = {model_type!r}; allowed: {allowed}")


def read_config_file(folder: Path) -> dict[str, Any]:
    """The contents of config.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; expected a from_pretrained folder")
    try:
        data = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds no JSON object")
    return data


def read_shapes(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder on torch's meta device: names and shapes. Raises as `weight_files`."""
    shapes: dict[str, Tensor] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                names = list(tensors.keys())
                found = {name: torch.empty(tensors.get_slice(name).get_shape(), device="meta") for name in names}
        else:
            found = torch.load(file, map_location="meta", weights_only=True)
        shapes |= found
    return shapes
