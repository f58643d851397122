"""Toy models and batches shared by the model's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.tiny import tiny_config

WORDS = "is there a red circle ? yes no what colour is it blue one two".split()


@pytest.fixture(scope="session")
def processor() -> DpnProcessor:
    return DpnProcessor(build_word_tokenizer(WORDS), image_size=96, tokens_per_image=64, template="short")


@pytest.fixture
def config(processor: DpnProcessor) -> DpnConfig:
    return tiny_config(len(processor.tokenizer))


@pytest.fixture
def model(config: DpnConfig) -> DpnForConditionalGeneration:
    torch.manual_seed(0)
    return DpnForConditionalGeneration(config).eval()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def training_batch(processor: DpnProcessor) -> Callable[..., dict[str, Tensor]]:
    """Two samples with an image (one of two turns), one without, of unequal length."""

    def build(*, router: bool = True) -> dict[str, Tensor]:
        samples = [
            processor.encode_training([("<image>\nis there a red circle ?", "yes")], [picture(0)], router=router),
            processor.encode_training([("what colour is it", "blue")], [], router=router),
            processor.encode_training([("<image>\nis there ?", "no"), ("red ?", "yes")], [picture(1)], router=router),
        ]
        batch = processor.collate(samples)
        return batch | {"pixel_values": normalise(batch["pixel_values"])}

    return build


@pytest.fixture(scope="session")
def prompt_batch(processor: DpnProcessor) -> Callable[..., dict[str, Tensor]]:
    """Prompts about one picture each, picture i drawn from seed i."""

    def build(questions: list[str], *, router: bool = True) -> dict[str, Tensor]:
        samples = [
            processor.encode_prompt(f"<image>\n{question}", [picture(seed)], router=router)
            for seed, question in enumerate(questions)
        ]
        batch = processor.collate(samples)
        del batch["labels"]
        return batch | {"pixel_values": normalise(batch["pixel_values"])}

    return build
