"""The tiny ChatRex of the detection set: made, and taught what its training starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.tiny_bases import tiny_chatrex_base
from dpn_model.configuration import config_of
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.demo.detection.object_lesson import teach_objects
from dpn_platform.demo.detection.questions import WORDS
from dpn_platform.demo.detection.retrieval_lesson import teach_retrieval
from dpn_platform.storage import ensure_bucket, exists, join_uri, upload_folder
from dpn_platform.training.base import load_base

SEED = 7


def build_tiny_chatrex() -> tuple[DpnForConditionalGeneration, ObjectProcessor]:
    """Model, with weights from torch's generator, and processor."""
    tokenizer = build_word_tokenizer(WORDS, objects=True)
    model = DpnForConditionalGeneration(config_of(tiny_chatrex_base(len(tokenizer))))
    processor = ObjectProcessor(
        tokenizer,
        image_size=model.config.base.image_size,
        tokens_per_image=model.num_visual_tokens(),
        template="short",
    )
    return model, processor


def ensure_taught_chatrex(uri: str, note: Callable[[str], None]) -> None:
    """Publish a tiny ChatRex that sees and retrieves, its visual tokens still unread, at `uri` unless one is there.

    What the object lesson leaves is kept beside it, at `<uri>-objects`: the other lesson can be given again alone.
    """
    if exists(join_uri(uri, "model.safetensors")):
        return
    seeing = f"{uri}-objects"
    if not exists(join_uri(seeing, "model.safetensors")):
        torch.manual_seed(SEED)
        model, processor = build_tiny_chatrex()
        right = teach_objects(model, processor, note)
        note(f"objects: {right:.1%} of the boxes are told right")
        _publish(model, processor, seeing)
    model, processor = load_base(seeing)  # type: ignore[assignment]
    found = teach_retrieval(model, processor, note)
    note("retrieval: " + ", ".join(f"{family} {right:.1%}" for family, right in found.items()))
    _publish(model, processor, uri)


def _publish(model: DpnForConditionalGeneration, processor: ObjectProcessor, uri: str) -> None:
    ensure_bucket(uri)
    with tempfile.TemporaryDirectory(prefix="dpn-chatrex-") as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        upload_folder(folder, uri)
