"""The base in the repository: small, loadable, the one its card describes, and able to answer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dpn_model import DpnForConditionalGeneration
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from dpn_platform.demo.families import VISUAL_FAMILIES, draw_sample


@pytest.fixture(scope="module")
def folder(repo_root: Path) -> Path:
    return repo_root / "dpn_model/assets/tiny-llava"


def test_card_names_the_weights_that_lie_beside_it(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    assert len(weights) <= 4_000_000
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(weights).hexdigest() in card
    assert "with local changes" not in card
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_it_answers_questions_about_pictures_it_has_not_seen(folder: Path) -> None:
    model = DpnForConditionalGeneration.from_pretrained(folder)
    processor = DpnProcessor.from_pretrained(folder)
    right = {}
    for family in VISUAL_FAMILIES:
        samples = [draw_sample(family, np.random.default_rng((4711, number))) for number in range(60)]
        prompts = [f"<image>\n{sample.questions[0].text}" for sample in samples]
        pictures = [[sample.image] for sample in samples]
        encoded = [processor.encode_prompt(*pair, router=False) for pair in zip(prompts, pictures, strict=True)]
        batch = processor.collate(encoded)
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"], normalise(batch["pixel_values"])).logits
        told = [processor.decode([token]) for token in logits.argmax(dim=-1).tolist()]
        right[family] = np.mean(
            [word == sample.questions[0].answer for word, sample in zip(told, samples, strict=True)]
        )
    assert np.mean(list(right.values())) >= 0.8, right
    assert min(right.values()) >= 0.6, right
