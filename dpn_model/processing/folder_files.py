"""A folder's own processor of transformers: loaded without its video half, and its files kept as they are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

_NAMING_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
#: what a processor of transformers reads beside its tokenizer
KEPT_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)


def load_tokenizer(folder: Path, *, is_llama: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer; one that has only `tokenizer.model` is converted.

    Args:
        folder: from_pretrained folder.
        is_llama: whether `tokenizer.model` is known to be LLaMA's. transformers guesses by config.json, and takes the
            authors' for another kind of tokenizer, with other ids at the beginning of a text.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    has_fast = (folder / "tokenizer.json").is_file()
    is_slow = (folder / "tokenizer.model").is_file() and not has_fast
    if is_slow and importlib.util.find_spec("sentencepiece") is None:
        raise ValueError(
            f"{folder} has only tokenizer.model; the package sentencepiece, which reads it, is not installed"
        )
    try:
        kind = LlamaTokenizer if is_slow and is_llama else AutoTokenizer
        return kind.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # the library raises plain Exceptions for whatever it cannot read
        raise ValueError(f"{folder}: its tokenizer cannot be read: {_one_line(error)}") from error


def load_processor_of_transformers(folder: Path, model_type: str) -> Any:
    """Tokenizer, image processor and chat template as transformers composes them; code in the folder is never run.

    The video half is left out: it needs torchvision, and no video is shown here.

    Raises:
        ValueError: the folder's files name no processor, or one that cannot be loaded.
    """
    load_tokenizer(folder)  # its faults are the most frequent ones, and are named best by themselves
    named = processor_name(folder, model_type)
    kind = getattr(transformers, named, None) if named else None
    if kind is None or not hasattr(kind, "get_attributes"):
        raise ValueError(f"{folder} names no processor that transformers has (found: {named})")
    attributes = [name for name in kind.get_attributes() if name != "video_processor"]
    pictures_only: Any = type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: attributes)})
    try:
        return pictures_only.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # as above
        raise ValueError(f"{folder}: its processor cannot be loaded: {_one_line(error)}") from error


def processor_name(folder: Path, model_type: str) -> str | None:
    """The class that the folder's files name, or else transformers' for this kind of model."""
    for name in _NAMING_FILES:
        file = folder / name
        named = json.loads(file.read_text()).get("processor_class") if file.is_file() else None
        if named:
            return str(named)
    return PROCESSOR_MAPPING_NAMES.get(model_type)


def read_kept_files(folder: Path) -> dict[str, bytes]:
    """Contents of `KEPT_FILES`, those that are there."""
    return {name: (folder / name).read_bytes() for name in KEPT_FILES if (folder / name).is_file()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
