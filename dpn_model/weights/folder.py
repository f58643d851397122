"""Reading and writing from_pretrained folders: configuration and tensors, of ours or of transformers' LLaVA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from dpn_model.configuration import DpnConfig

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def load_folder(folder: Path) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Configuration and all tensors of a folder.

    Raises:
        FileNotFoundError: no config.json, or no safetensors (other formats would have to be unpickled).
        ValueError: a model type that is neither "dpn" nor "llava".
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; expected a from_pretrained folder")
    data = json.loads(config_file.read_text())
    model_type = data.pop("model_type", None)
    if model_type == "dpn":
        config = DpnConfig(**data)
    elif model_type == "llava":
        config = DpnConfig(base_config={"model_type": "llava", **data})
    else:
        raise ValueError(f"{config_file}: model_type = {model_type!r}; allowed: dpn, llava")
    return config, _load_tensors(folder)


def save_folder(folder: Path, config: DpnConfig, state: Mapping[str, Tensor]) -> None:
    """Write config.json and one safetensors file.

    transformers' own writer is not used: it renames LLaVA's keys to the layout of its earlier releases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / SINGLE_FILE, metadata={"format": "pt"})


def _load_tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / SINGLE_FILE).is_file():
        return load_file(folder / SINGLE_FILE)
    if not (folder / INDEX_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}")
    shards = sorted(set(json.loads((folder / INDEX_FILE).read_text())["weight_map"].values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= load_file(folder / shard)
    return tensors
