"""Making a `ChatProcessor` of a folder of transformers, or of one that it was saved to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dpn_model.configuration import DpnConfig
from dpn_model.processing.chat_processor import ChatProcessor
from dpn_model.processing.folder_files import load_processor_of_transformers, read_kept_files


def load_chat_processor(folder: Path, config: DpnConfig, settings: dict[str, Any] | None = None) -> ChatProcessor:
    """The processor in a folder of transformers, or in one that `ChatProcessor.save_pretrained` wrote.

    Args:
        folder: from_pretrained folder.
        config: of the model in it.
        settings: of its `dpn_processor.json`.

    Raises:
        ValueError: none that can be loaded, or that can ask about a picture.
    """
    base = config.base
    processor = load_processor_of_transformers(folder, base.model_type)
    _fit_to_tower(processor, base)
    values = {"end_ids": _generation_ends(folder)} if settings is None else settings
    return ChatProcessor(
        processor,
        image_token_id=base.image_token_id,
        router_token_id=config.router_token_id,
        files=read_kept_files(folder),
        **values,
    )


def _fit_to_tower(processor: Any, base: Any) -> None:
    """LLaVA's processors count a picture's tokens by fields that older folders lack; the model knows them."""
    if not hasattr(processor, "num_additional_image_tokens"):
        return
    processor.patch_size = base.vision_config.patch_size
    processor.vision_feature_select_strategy = base.vision_feature_select_strategy
    processor.num_additional_image_tokens = int(base.vision_config.model_type == "clip_vision_model")


def _generation_ends(folder: Path) -> list[int]:
    """Ids at which transformers' own generation with this folder ends."""
    file = folder / "generation_config.json"
    ends = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]
