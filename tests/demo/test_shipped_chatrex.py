"""The tiny ChatRex in the repository: small, the one its card describes, and able to name and to retrieve."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dpn_model import DpnForConditionalGeneration
from dpn_model.objects.answers import parse_answer
from dpn_model.objects.record import Objects
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from dpn_platform.demo.detection.questions import ask
from dpn_platform.demo.detection.scenes import paint


@pytest.fixture(scope="module")
def folder(repo_root: Path) -> Path:
    return repo_root / "dpn_model/assets/tiny-chatrex"


def test_card_names_the_weights_that_lie_beside_it(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    assert len(weights) <= 6_000_000
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(weights).hexdigest() in card
    assert "with local changes" not in card


def test_it_names_and_retrieves_on_pictures_it_has_not_seen(folder: Path) -> None:
    """Far above chance (a name: one in 25; the boxes of a kind: one set in thousands), below what its card says."""
    model = DpnForConditionalGeneration.from_pretrained(folder).eval()
    processor = DpnProcessor.from_pretrained(folder)
    right = {}
    for family in ("name", "detect"):
        asked = [ask(family, np.random.default_rng((4711, number))) for number in range(40)]
        pictures = [paint(one.scene, np.random.default_rng(number)) for number, one in enumerate(asked)]
        encoded = [
            processor.encode_prompt(
                f"<image>\n{one.question}", [picture], router=False, objects=Objects(one.proposals.boxes, picture.size)
            )
            for one, picture in zip(asked, pictures, strict=True)
        ]
        batch = {name: tensor for name, tensor in processor.collate(encoded).items() if name != "labels"}
        batch["pixel_values"] = normalise(batch["pixel_values"])
        with torch.no_grad():
            ids = model.generate(**batch, max_new_tokens=40, do_sample=False, eos_token_id=processor.end_ids)
        told = [processor.decode(row) for row in ids[:, batch["input_ids"].shape[1] :].tolist()]
        if family == "name":
            right[family] = np.mean([text == one.answer for text, one in zip(told, asked, strict=True)])
        else:
            pairs = [
                (parse_answer(text, 16), parse_answer(one.answer, 16)) for text, one in zip(told, asked, strict=True)
            ]
            assert sum(found.unclosed + found.out_of_range for found, _ in pairs) == 0
            right[family] = np.mean([found.groups == true.groups for found, true in pairs])
    assert right["name"] >= 0.8, right
    assert right["detect"] >= 0.25, right
