"""Reading and writing from_pretrained folders: of ours, of transformers, of the authors of LLaVA, LLaVA-HR and DPN."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModelForImageTextToText

from dpn_model.configuration import DpnConfig
from dpn_model.vision.image_side import IMAGE_SIDES
from dpn_model.weights.names import canonical_names
from dpn_model.weights.original import EMBEDDING, HEAD, from_original, is_original
from dpn_model.weights.tensors import read_folder, write_folder


def load_folder(folder: Path) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Configuration and all tensors of a folder, by our names.

    Raises:
        FileNotFoundError: no config.json, or no weights.
        ValueError: a kind of model that is not known here, or files that hold more than tensors.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; expected a from_pretrained folder")
    data = json.loads(config_file.read_text())
    model_type = data.get("model_type")
    if model_type in IMAGE_SIDES and model_type not in ("llava", "llava_hr"):
        return _load_with_transformers(folder)
    if is_original(data):
        return from_original(data, canonical_names(read_folder(folder)))
    tensors = canonical_names(read_folder(folder))
    if model_type == "dpn":
        config = DpnConfig(**{key: value for key, value in data.items() if key != "model_type"})
    elif model_type == "llava":
        config = DpnConfig(base_config=data, router_token_id=_spare_row(data))
        if config.get_text_config().tie_word_embeddings:
            tensors.setdefault(HEAD, tensors[EMBEDDING])
    else:
        allowed = ", ".join(("dpn", *IMAGE_SIDES))
        raise ValueError(f"{config_file}: model_type = {model_type!r}; allowed: {allowed}")
    return config, tensors


def save_folder(folder: Path, config: DpnConfig, state: Mapping[str, Tensor]) -> None:
    """Write config.json and safetensors, in shards where they are large.

    transformers' own writer is not used: it renames LLaVA's keys to the layout of its earlier releases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    write_folder(folder, state)


def _spare_row(data: Mapping[str, Any]) -> int | None:
    """llava-hf pads the vocabulary: 32000 is `<image>`, 32001 `<pad>`, and the first free row is for `<ROUTER>`."""
    image = data.get("image_token_index", 32000)
    rows = data.get("text_config", {}).get("vocab_size", 32000)
    return image + 2 if image + 2 < rows else None


def _load_with_transformers(folder: Path) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Other VLMs: transformers reads them and knows their layouts' history; names in memory are ours."""
    model = AutoModelForImageTextToText.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
    return DpnConfig(base_config=model.config), dict(model.state_dict())
