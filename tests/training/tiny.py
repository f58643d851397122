"""A tiny model and batches for it, the same in every process of a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import SPECIAL_TOKENS
from dpn_model.tiny import tiny_config

WORDS = "is there a red circle ? yes no how many one two".split()
IMAGE_SIZE, PATCH_SIZE = 96, 12
#: of LLaVA-HR's towers: 4 x 4 visual tokens
HIGH_RESOLUTION = 128


def tiny_processor(high_resolution: bool = False) -> DpnProcessor:
    """For pictures of 8 x 8 visual tokens, or of 4 x 4."""
    size, tokens = (HIGH_RESOLUTION, 16) if high_resolution else (IMAGE_SIZE, (IMAGE_SIZE // PATCH_SIZE) ** 2)
    return DpnProcessor(build_word_tokenizer(WORDS), image_size=size, tokens_per_image=tokens, template="short")


def tiny_model(
    method: Method,
    *,
    high_resolution: bool = False,
    num_layers: int | None = None,
    tower_layers: int | None = None,
    tied: bool = False,
) -> DpnForConditionalGeneration:
    """The same weights at every call, with a method attached; LLaVA-HR's two towers, or one embedding and head."""
    torch.manual_seed(0)
    vocabulary = len(tiny_processor().tokenizer)
    config = tiny_config(vocabulary, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE)
    if high_resolution:
        config = _high_resolution_config(vocabulary)
    config.base_config["tie_word_embeddings"] = config.base_config["text_config"]["tie_word_embeddings"] = tied
    if num_layers is not None:
        config.base_config["text_config"]["num_hidden_layers"] = num_layers
    if tower_layers is not None:
        config.base_config["vision_config"]["num_hidden_layers"] = tower_layers
    model = DpnForConditionalGeneration(config)
    model.configure_method(method)
    return model.train()


def tiny_batch(processor: DpnProcessor, samples: Iterable[int], *, text_only: bool | None = None) -> dict[str, Any]:
    """A collated micro-batch; sample i depends on i alone. Every third is text only unless told otherwise."""
    encoded = []
    size = processor.image_size
    for number in samples:
        is_text = number % 3 == 2 if text_only is None else text_only
        rng = np.random.default_rng(number)
        images = [] if is_text else [Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8))]
        question = ("" if is_text else "<image>\n") + "how many red circle ?"
        turns = [(question, "one" if number % 2 else "two")] + [("is there a circle ?", "yes")] * (number % 4)
        encoded.append(processor.encode_training(turns, images, router=True))
    return {**processor.collate(encoded), "sample_keys": torch.tensor(list(samples))}


def _high_resolution_config(vocabulary: int) -> DpnConfig:
    from tests.model.test_llava_hr import toy_config

    base = toy_config(image_token_index=SPECIAL_TOKENS.index("<image>"))
    base.text_config.vocab_size = vocabulary
    return DpnConfig(base_config=base, router_token_id=SPECIAL_TOKENS.index("<ROUTER>"))
