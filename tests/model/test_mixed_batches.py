"""Batches as they come: text alone, several images in a sample, odd and non-square grids; and bad ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.cache import PackedCache

BOS, PAD = 1, 0
SIZES = [(96, 96), (60, 132), (36, 84), (96, 96)]  # pixels; patches of 12: 8x8, 5x11, 3x7, 8x8
GRIDS = [(8, 8), (5, 11), (3, 7), (8, 8)]


@pytest.fixture
def batch(model: DpnForConditionalGeneration) -> dict[str, object]:
    """Two images in one sample, text alone, one image in each of two more; three sizes, padded on both sides."""
    image, router = model.image_token_id, model.config.router_token_id
    blocks = [[image] * (height * width) for height, width in GRIDS]
    rows = [
        [BOS, 7, *blocks[0], 8, 9, *blocks[1], 10, 6, router],
        [BOS, 7, 8, 9],
        [BOS, *blocks[2], 6, 7, router, 9],
        [BOS, 9, *blocks[3], 7, router],
    ]
    longest = max(map(len, rows)) + 1
    ids = torch.tensor([[PAD] * (side := (longest - len(row)) // 2) + row + [PAD] * (longest - len(row) - side)
                        for row in rows])  # fmt: skip
    torch.manual_seed(5)
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "pixel_values": [torch.randn(3, *size) for size in SIZES],
    }


IMAGES_OF = [[0, 1], [], [2], [3]]


def _alone(batch: dict[str, object], row: int) -> dict[str, object]:
    keep = batch["attention_mask"][row].bool()
    pixels = [batch["pixel_values"][number] for number in IMAGES_OF[row]]
    return {"input_ids": batch["input_ids"][row][keep][None], "pixel_values": pixels or None}


@pytest.mark.parametrize("name", ["dense", "static", "dpn"])
def test_every_sample_comes_out_as_alone(
    model: DpnForConditionalGeneration, batch: dict[str, object], name: str
) -> None:
    torch.manual_seed(1)
    own = {"static": {"kernel": "1x2"}, "dpn": {"temperature": 1.0}}.get(name, {})
    model.configure_method(Method(name=name, **own, **({} if name == "dense" else {"sites": (2, 4)})))
    model.eval()
    together = model(**batch)
    generated = model.generate(**batch, max_new_tokens=4, eos_token_id=10_000)[:, -4:]
    for row in range(4):
        alone = _alone(batch, row)
        out = model(**alone)
        torch.testing.assert_close(out.logits[0], together.logits[row], atol=1e-5, rtol=1e-4)  # measured 1.1e-6
        assert out.routing.route(0) == together.routing.route(row)
        assert (
            model.generate(**alone, max_new_tokens=4, eos_token_id=10_000)[0, -4:].tolist() == generated[row].tolist()
        )


def test_token_counts_follow_the_grids(model: DpnForConditionalGeneration, batch: dict[str, object]) -> None:
    model.configure_method(Method(name="static", kernel="1x2", sites=(2, 4)))
    routing = model.eval()(**batch).routing
    stages = [routing.visual_tokens_per_stage(sample) for sample in range(4)]
    assert stages == [(64 + 55, 32 + 25, 16 + 10), (0, 0, 0), (21, 9, 3), (64, 32, 16)]
    assert routing.text_tokens == (7, 4, 5, 4)


def test_images_of_one_size_may_come_as_a_list(model: DpnForConditionalGeneration, prompt_batch) -> None:
    batch = prompt_batch(["is it", "what colour is it ?"])
    stacked = model(**batch).logits
    listed = model(**(batch | {"pixel_values": list(batch["pixel_values"])})).logits
    assert torch.equal(stacked, listed)


def _broken(batch: dict[str, object], change: Callable[[Tensor], Tensor]) -> dict[str, object]:
    return batch | {"input_ids": change(batch["input_ids"].clone())}


def test_placeholders_that_do_not_fit_are_named(model: DpnForConditionalGeneration, batch: dict[str, object]) -> None:
    image = model.image_token_id
    with pytest.raises(ValueError, match="204 image placeholders, pixel_values 3 images of 140 visual tokens"):
        model(**(batch | {"pixel_values": batch["pixel_values"][:3]}))
    with pytest.raises(ValueError, match="204 image placeholders, pixel_values 0 images"):
        model(**(batch | {"pixel_values": None}))

    def move_one(ids: Tensor) -> Tensor:
        """The first image loses its last placeholder to the text in front of it."""
        row, columns = ids[0], torch.nonzero(ids[0] == image).flatten()
        row[columns[63]], row[columns[0] - 2] = 7, image
        return ids

    with pytest.raises(ValueError, match=r"image 0 \(8x8 = 64 visual tokens\) begins in sample 0"):
        model(**_broken(batch, move_one))
    swapped = batch["pixel_values"][::-1]
    with pytest.raises(ValueError, match="where fewer placeholders lie together"):
        model(**(batch | {"pixel_values": swapped}))
    with pytest.raises(ValueError, match=r"pixel_values\[0\] is 8x96 pixels; allowed: at least 12"):
        model(**(batch | {"pixel_values": [torch.zeros(3, 8, 96)]}))


def test_masks_and_labels_of_another_shape_are_named(
    model: DpnForConditionalGeneration, batch: dict[str, object]
) -> None:
    mask = batch["attention_mask"]
    with pytest.raises(ValueError, match=r"attention_mask has shape \(4, \d+\); allowed: that of input_ids"):
        model(**(batch | {"attention_mask": mask[:, 1:]}))
    with pytest.raises(ValueError, match="sample 1 has no tokens"):
        model(**(batch | {"attention_mask": mask.index_fill(0, torch.tensor([1]), 0)}))
    with pytest.raises(ValueError, match="labels have shape"):
        model(**batch, labels=batch["input_ids"][:, 1:])
    cache = PackedCache()
    model(**batch, past_key_values=cache)
    assert cache.num_samples == 4
    with pytest.raises(ValueError, match="labels are given with past_key_values that hold prompts"):
        model(batch["input_ids"][:, -1:], labels=batch["input_ids"][:, -1:], past_key_values=cache)
