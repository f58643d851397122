"""The tiny base drawn from noise, with the tokenizer of the demo set's words."""

from __future__ import annotations

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.tiny import tiny_config
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.data.demo import VOCABULARY


def build_tiny() -> tuple[DpnForConditionalGeneration, DpnProcessor]:
    """Model with weights from torch's generator, and its processor."""
    tokenizer = build_word_tokenizer(VOCABULARY)
    model = DpnForConditionalGeneration(tiny_config(len(tokenizer)))
    processor = DpnProcessor(
        tokenizer,
        image_size=model.config.base.vision_config.image_size,
        tokens_per_image=model.num_visual_tokens(),
        template="short",
    )
    return model, processor
