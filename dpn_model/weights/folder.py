"""Reading and writing from_pretrained folders: of ours, of transformers, of the authors of other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.initialization import no_init_weights

from dpn_model.bases.chatrex.shape import is_chatrex
from dpn_model.configuration import DpnConfig
from dpn_model.weights.arguments import WantedDtype
from dpn_model.weights.chatrex import from_chatrex
from dpn_model.weights.files import check_no_pointers, read_json, weight_files
from dpn_model.weights.names import canonical_names
from dpn_model.weights.original import from_original, is_original
from dpn_model.weights.router_row import EMBEDDING, HEAD, tokenizer_ids
from dpn_model.weights.tensors import SAFE_SUFFIX, read_file, read_folder, read_shapes, write_folder
from dpn_model.weights.theirs import read_config, read_with_transformers
from dpn_model.weights.tying import settle_tying

GENERATION_FILE = "generation_config.json"


@dataclass
class Source:
    """What a folder holds.

    Attributes:
        config: with the method, where the folder has one.
        tensors: by our names.
        dtype: of the weights of a model made from it.
        is_ours: written by `save_folder`.
        generation: how the base generates by default, where it says so.
    """

    config: DpnConfig
    tensors: dict[str, Tensor]
    dtype: torch.dtype
    is_ours: bool
    generation: GenerationConfig | None

    @contextmanager
    def building(self) -> Iterator[None]:
        """A model made inside has the source's type of numbers, and memory that is not filled before the weights come.

        A model of ours is drawn all the same: what is drawn after it, a method's routers, stays what it was.
        """
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            if self.is_ours:
                yield
            else:
                with no_init_weights():
                    yield
        finally:
            torch.set_default_dtype(before)


def load_folder(folder: Path, dtype: WantedDtype = torch.float32) -> Source:
    """Configuration and all tensors of a folder.

    Raises:
        FileNotFoundError: no such folder, no config.json, or no weights.
        ValueError: a kind of model or a setting that is not supported here, or files of anything but tensors.
    """
    data = _read_config_file(folder)
    files = weight_files(folder)
    if is_chatrex(data):
        config, tensors = from_chatrex(data, read_folder(folder), folder)
    elif is_original(data):
        config, tensors = from_original(data, canonical_names(read_folder(folder)), folder)
    elif data.get("model_type") == DpnConfig.model_type:
        config = DpnConfig(**{key: value for key, value in data.items() if key != "model_type"})
        tensors = canonical_names(read_folder(folder))
    else:
        read_config(folder)
        for file in files:
            if file.suffix != SAFE_SUFFIX:
                read_file(file)  # told by name, and refused where it holds more than tensors
        base, tensors = read_with_transformers(folder, dtype)
        config = DpnConfig(base_config=base, router_token_id=_router_id(base, folder))
    settle_tying(config, tensors)
    stored = tensors[EMBEDDING] if EMBEDDING in tensors else next(iter(tensors.values()))
    return Source(
        config,
        tensors,
        stored.dtype if dtype == "auto" else dtype,
        data.get("model_type") == DpnConfig.model_type,
        _generation(folder),
    )


def load_config(folder: Path) -> DpnConfig:
    """Configuration of a folder alone, as `load_folder` gives it; of the authors' folders shapes tell the sizes.

    Raises: as `load_folder`.
    """
    data = _read_config_file(folder)
    if is_chatrex(data):
        return from_chatrex(data, read_shapes(folder), folder)[0]
    if is_original(data):
        return from_original(data, canonical_names(read_shapes(folder)), folder)[0]
    if data.get("model_type") == DpnConfig.model_type:
        return DpnConfig(**{key: value for key, value in data.items() if key != "model_type"})
    base = read_config(folder).to_dict()
    return DpnConfig(base_config=base, router_token_id=_router_id(base, folder))


def save_folder(
    folder: Path, config: DpnConfig, state: Mapping[str, Tensor], generation: GenerationConfig | None = None
) -> None:
    """Write config.json and safetensors, in shards where they are large; a head that is the embedding is left out.

    transformers' own writer is not used: it renames LLaVA's keys to the layout of its earlier releases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_tied = config.tie_word_embeddings
    write_folder(folder, {name: tensor for name, tensor in state.items() if not (is_tied and name == HEAD)})
    config.save_pretrained(folder)
    if generation is not None:
        generation.to_json_file(folder / GENERATION_FILE)


def _read_config_file(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; a model of the Hub is downloaded first (hf download NAME --local-dir FOLDER)"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; expected a from_pretrained folder")
    check_no_pointers(folder)
    return read_json(folder / "config.json")


def _router_id(base: Mapping[str, Any], folder: Path) -> int | None:
    """What the tokenizer gives `<ROUTER>`. Without one, llava-hf's padding: `<image>`, `<pad>`, then a free row."""
    image = base.get("image_token_id", base.get("image_token_index"))
    known = tokenizer_ids(folder, image)
    if known is not None:
        return known[0]
    is_padded = base["model_type"] == "llava" and image is not None and image + 2 < base["text_config"]["vocab_size"]
    return image + 2 if is_padded else None


def _generation(folder: Path) -> GenerationConfig | None:
    if not (folder / GENERATION_FILE).is_file():
        return None
    generation = GenerationConfig.from_dict(read_json(folder / GENERATION_FILE))
    generation._from_model_config = False  # it came from a file, and is written to one
    return generation
