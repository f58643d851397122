"""DpnProcessor: the processor in a from_pretrained folder, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path

from dpn_model.bases.chatrex.shape import is_chatrex
from dpn_model.configuration import DpnConfig
from dpn_model.processing.chat_loading import load_chat_processor
from dpn_model.processing.chat_processor import KIND
from dpn_model.processing.contract import Processor
from dpn_model.processing.folder_files import load_tokenizer
from dpn_model.processing.object_processor import KIND as OBJECTS_KIND
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.original import fit_tokenizer, object_settings, original_settings
from dpn_model.processing.square_processor import FILE_NAME, SquareProcessor
from dpn_model.weights.files import read_json
from dpn_model.weights.folder import load_config
from dpn_model.weights.original import is_original


class DpnProcessor(SquareProcessor):
    """Processor of our own folders; `from_pretrained` gives the one that fits a folder of any kind."""

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Processor:
        """The processor of a folder of ours, of transformers, or of the authors of LLaVA, LLaVA-HR and DPN.

        A folder of ours or of the authors gives a `DpnProcessor`, one of transformers a `ChatProcessor` around its
        own. Raises as `load_processor`.
        """
        return load_processor(folder)


def load_processor(folder: str | Path, config: DpnConfig | None = None) -> Processor:
    """The processor in a from_pretrained folder.

    Args:
        folder: of any kind that `DpnForConditionalGeneration.from_pretrained` takes.
        config: of the model in it; None: read from it.

    Raises:
        FileNotFoundError: no such folder, or no config.json in it.
        ValueError: a tokenizer, processor or chat template that cannot be used.
    """
    folder = Path(folder)
    own = folder / FILE_NAME
    settings = json.loads(own.read_text()) if own.is_file() else None
    if settings is not None and (kind := settings.pop("processor", None)) != KIND:
        made = ObjectProcessor if kind == OBJECTS_KIND else DpnProcessor
        return made(load_tokenizer(folder), **settings)
    config = config or load_config(folder)
    data = read_json(folder / "config.json")
    if settings is None and is_chatrex(data) and data.get("model_type") != config.model_type:
        tokenizer = load_tokenizer(folder, is_llama=config.base.text_config.model_type == "llama")
        fit_tokenizer(tokenizer, config)
        return ObjectProcessor(tokenizer, **object_settings(data, config))
    if settings is None and is_original(data):
        tokenizer = load_tokenizer(folder, is_llama=True)
        fit_tokenizer(tokenizer, config)
        return DpnProcessor(tokenizer, **original_settings(data, config))
    if settings is None and data.get("model_type") == config.model_type:
        raise FileNotFoundError(f"{folder} holds no {FILE_NAME}; the processor's save_pretrained writes it")
    return load_chat_processor(folder, config, settings)
