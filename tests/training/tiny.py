"""A tiny model and batches for it, the same in every process of a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.objects.record import Objects
from dpn_model.processing import DpnProcessor
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import SPECIAL_TOKENS
from dpn_model.tiny import tiny_config

WORDS = "is there a red circle ? yes no how many one two".split()
IMAGE_SIZE, PATCH_SIZE = 96, 12
#: pixels of bases with two towers: 4 x 4 visual tokens
HIGH_RESOLUTION = 128


def tiny_processor(base: str = "llava") -> DpnProcessor:
    """For pictures of 8 x 8 visual tokens; of 4 x 4 with bases llava_hr and chatrex, and boxes with the latter."""
    size, tokens = (IMAGE_SIZE, (IMAGE_SIZE // PATCH_SIZE) ** 2) if base == "llava" else (HIGH_RESOLUTION, 16)
    settings: dict[str, Any] = {"image_size": size, "tokens_per_image": tokens, "template": "short"}
    if base == "chatrex":
        return ObjectProcessor(build_word_tokenizer(WORDS, objects=True), **settings)  # type: ignore[return-value]
    return DpnProcessor(build_word_tokenizer(WORDS), **settings)


def tiny_model(
    method: Method,
    *,
    base: str = "llava",
    num_layers: int | None = None,
    tower_layers: int | None = None,
    tied: bool = False,
) -> DpnForConditionalGeneration:
    """The same weights at every call, with a method attached; the two towers of other bases, or a tied embedding."""
    torch.manual_seed(0)
    vocabulary = len(tiny_processor(base).tokenizer)
    config = tiny_config(vocabulary, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE)
    if base != "llava":
        config = _two_towers_config(base, vocabulary)
    config.base_config["tie_word_embeddings"] = config.base_config["text_config"]["tie_word_embeddings"] = tied
    if num_layers is not None:
        config.base_config["text_config"]["num_hidden_layers"] = num_layers
    if tower_layers is not None:
        config.base_config["vision_config"]["num_hidden_layers"] = tower_layers
    model = DpnForConditionalGeneration(config)
    model.configure_method(method)
    return model.train()


def tiny_batch(
    processor: DpnProcessor, samples: Iterable[int], *, text_only: bool | None = None, boxes: bool = False
) -> dict[str, Any]:
    """A collated micro-batch; sample i depends on i alone. Every third is text only unless told otherwise.

    With boxes, a picture has up to three of them.
    """
    encoded = []
    size = processor.image_size
    for number in samples:
        is_text = number % 3 == 2 if text_only is None else text_only
        rng = np.random.default_rng(number)
        images = [] if is_text else [Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8))]
        question = ("" if is_text else "<image>\n") + "how many red circle ?"
        turns = [(question, "one" if number % 2 else "two")] + [("is there a circle ?", "yes")] * (number % 4)
        corners = rng.uniform(0, size / 2, (number % 4, 2))
        objects = Objects(np.concatenate([corners, corners + 20], axis=1), (size, size)) if boxes and images else None
        encoded.append(processor.encode_training(turns, images, router=True, objects=objects))
    return {**processor.collate(encoded), "sample_keys": torch.tensor(list(samples))}


def _two_towers_config(base: str, vocabulary: int) -> DpnConfig:
    from tests.model import test_llava_hr, toy_chatrex

    toys = {"llava_hr": test_llava_hr, "chatrex": toy_chatrex}
    config = toys[base].toy_config(image_token_index=SPECIAL_TOKENS.index("<image>"))  # type: ignore[attr-defined]
    config.text_config.vocab_size = vocabulary
    if base == "chatrex":
        config.object_token_index = len(SPECIAL_TOKENS)
    return DpnConfig(base_config=config, router_token_id=SPECIAL_TOKENS.index("<ROUTER>"))
