"""Processor of a checkpoint in the authors' layouts, from its config.json (spec base-models B.2, B.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.configuration import DpnConfig
from dpn_model.processing.tokenizer import add_special_tokens
from dpn_model.special_texts import IMAGE_TEXT, OBJECT_TEXT, OBJECT_TOKENS, ROUTER_TEXT

#: of text with pictures and objects in it
_OBJECTS_MAX_LENGTH = 2048
#: LLaVA's code pads for `pad` and otherwise leaves the picture to CLIP's processor, which cuts the centre out
_ASPECT_RATIOS = {"pad": "pad", "square": "crop", None: "crop"}


def original_settings(data: Mapping[str, Any], config: DpnConfig) -> dict[str, Any]:
    """Settings of `SquareProcessor` for an original checkpoint.

    Args:
        data: its config.json.
        config: what was made of it.

    Raises:
        ValueError: a way of preparing pictures that is not supported here.
    """
    aspect_ratio = data.get("image_aspect_ratio")
    if aspect_ratio not in _ASPECT_RATIOS:
        raise ValueError(f"config.json: image_aspect_ratio = {aspect_ratio!r}; allowed: pad, square")
    side: Any = image_side_of(config.base)
    height, width = side.fixed_grid()
    # LLaVA-HR and the authors of DPN cut the text before pictures are put in (spec A.4, row 28).
    counts_text = bool(data.get("is_multipath_encoder") or data.get("pooling"))
    return {
        "image_size": side.image_size,
        "tokens_per_image": height * width,
        "template": "vicuna_v1",
        "aspect_ratio": _ASPECT_RATIOS[aspect_ratio],
        "max_length": data.get("tokenizer_model_max_length"),
        "truncation": "text" if counts_text else "expanded",
    }


def object_settings(data: Mapping[str, Any], config: DpnConfig) -> dict[str, Any]:
    """Settings of `ObjectProcessor` for a checkpoint of the ChatRex family (spec chatrex 1.1, 3.1).

    Args:
        data: its config.json.
        config: what was made of it.
    """
    side: Any = image_side_of(config.base)
    height, width = side.fixed_grid()
    return {
        "image_size": side.image_size,
        "tokens_per_image": height * width,
        "template": "qwen" if config.base.text_config.model_type == "qwen2" else "short",
        "max_length": data.get("tokenizer_model_max_length") or _OBJECTS_MAX_LENGTH,
    }


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, config: DpnConfig) -> None:
    """Teach it the texts that this model knows, at its ids. Raises as `add_special_tokens`."""
    base = config.base
    expected = {IMAGE_TEXT: base.image_token_id, ROUTER_TEXT: config.router_token_id}
    if (objects := getattr(base, "object_token_index", None)) is not None:
        # Where names of objects are new they follow the words (`weights.object_rows`).
        first = tokenizer.get_vocab().get(OBJECT_TOKENS[0], len(tokenizer))
        expected |= {OBJECT_TEXT: objects} | {text: first + number for number, text in enumerate(OBJECT_TOKENS)}
    add_special_tokens(tokenizer, expected, fills=objects is not None)
