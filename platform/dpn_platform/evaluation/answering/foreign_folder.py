"""Loads a folder that is not ours: through transformers' own code, or through the folder's where that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from dpn_model.processing.folder_files import load_processor_of_transformers, processor_name
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import read_json

#: names under which a folder's `auto_map` may have the model that answers, the most specific first
_MODELS = (
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForVision2Seq",
    "AutoModelForCausalLM",
    "AutoModel",
)


def load_foreign(folder: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Model and processor. Where transformers has the kind of model, its code runs, whatever code the folder brings.

    Args:
        folder: a local from_pretrained folder.
        dtype: of the weights.
        trust_remote_code: run the folder's code where transformers has none. What it may do is not limited.

    Raises:
        DpnError: transformers cannot load it as an image-text-to-text model; it needs code that is not allowed, or that
            is not in the folder; or it has no processor that takes pictures.
    """
    written = read_json(str(Path(folder) / "config.json"))
    auto_map: dict[str, str] = written.get("auto_map") or {}
    is_known = written.get("model_type") in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    try:
        if is_known or not auto_map:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            processor = load_processor_of_transformers(Path(folder), config.model_type)
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
            return model, processor
        return _by_its_own_code(folder, auto_map, dtype, trust_remote_code)
    except DpnError:
        raise
    except Exception as error:  # a folder's files, and its code, may raise anything
        line = " ".join(str(error).split())[:200]
        raise DpnError(f"{folder}: not a checkpoint of ours, and transformers cannot load it: {line}") from error


def _by_its_own_code(folder: str, auto_map: dict[str, str], dtype: torch.dtype, is_trusted: bool) -> tuple[Any, Any]:
    if not is_trusted:
        raise DpnError(
            f"{folder}: transformers has no such model of its own, the folder's code would have to run "
            f"({', '.join(sorted(map(str, auto_map.values())))}); read it, then allow it with --trust-remote-code"
        )
    elsewhere = [reference for reference in map(str, auto_map.values()) if "--" in reference]
    if elsewhere:
        raise DpnError(f"{folder}: its code is not in the folder ({elsewhere[0]}); put it there, none is fetched")
    name = next((name for name in _MODELS if name in auto_map), None)
    if name is None:
        raise DpnError(f"{folder}: its auto_map has no model that answers (found: {', '.join(auto_map)})")
    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": True}
    config = AutoConfig.from_pretrained(folder, **own)
    processor = _processor(folder, config, own)
    kind: Any = get_class_from_dynamic_module(auto_map[name], folder, local_files_only=True)
    return kind.from_pretrained(folder, config=config, dtype=dtype, local_files_only=True), processor


def _processor(folder: str, config: PreTrainedConfig, own: dict[str, Any]) -> Any:
    """The processor of transformers that the folder names, or its own.

    Raises:
        DpnError: it takes no pictures.
    """
    named = processor_name(Path(folder), config.model_type)
    if named and hasattr(transformers, named):
        return load_processor_of_transformers(Path(folder), config.model_type)
    processor = AutoProcessor.from_pretrained(folder, **own)
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise DpnError(
            f"{folder}: {type(processor).__name__} is all it has for a processor, which takes no pictures; "
            "it needs one with a tokenizer and an image processor"
        )
    return processor
