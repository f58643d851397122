"""The tiny ChatRex of the detection set, with weights from torch's generator, and its processor."""

from __future__ import annotations

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import tiny_chatrex_base
from dpn_model.configuration import config_of
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.demo.detection.questions import WORDS


def build_tiny_chatrex() -> tuple[DpnForConditionalGeneration, ObjectProcessor]:
    """Model and processor."""
    tokenizer = build_word_tokenizer(WORDS, objects=True)
    model = DpnForConditionalGeneration(config_of(tiny_chatrex_base(len(tokenizer))))
    processor = ObjectProcessor(
        tokenizer,
        image_size=model.config.base.image_size,
        tokens_per_image=model.num_visual_tokens(),
        template="short",
    )
    return model, processor
