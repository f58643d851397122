"""Attachment to another VLM of transformers: Qwen2.5-VL, with a grid per image and three-part positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.cache import PackedCache

VISION_START, IMAGE, ROUTER = 90, 91, 92
#: (time, height, width) in patches of one image of sample 0 and two of sample 2; 2x2 patches make a token
GRIDS = torch.tensor([[1, 8, 12], [1, 4, 6], [1, 8, 8]])


def qwen_config(**text) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 96,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        }
        | text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=IMAGE,
        vision_start_token_id=VISION_START,
        video_token_id=93,
        vision_end_token_id=94,
    )


@pytest.fixture
def theirs() -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(qwen_config()).eval()


@pytest.fixture
def model(theirs) -> DpnForConditionalGeneration:
    ours = DpnForConditionalGeneration(DpnConfig(base_config=theirs.config, router_token_id=ROUTER))
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


def image_ids(number: int) -> list[int]:
    height, width = GRIDS[number, 1:].tolist()
    return [VISION_START, *[IMAGE] * (height * width // 4), 94]


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """One image, none, two images; padded on the right."""
    torch.manual_seed(1)
    rows = [
        [5, 6, *image_ids(0), 7, 8, ROUTER, 9],
        [5, 10, 11],
        [*image_ids(1), 12, *image_ids(2), 13, 14, ROUTER, 15, 16],
    ]
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        "pixel_values": torch.randn(int(GRIDS.prod(dim=1).sum()), 3 * 2 * 4 * 4),
        "image_grid_thw": GRIDS,
    }


def their_logits(theirs, batch: dict[str, Tensor]) -> Tensor:
    return theirs(**batch, mm_token_type_ids=(batch["input_ids"] == IMAGE).int()).logits


def test_dense_logits_and_loss_equal_transformers(theirs, model, batch) -> None:
    expected = their_logits(theirs, batch)
    ours = model(**batch).logits
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        torch.testing.assert_close(ours[row], expected[row, length - 1], atol=1e-6, rtol=1e-4)  # measured 6e-8
    labels = (
        batch["input_ids"].masked_fill(batch["input_ids"] > 20, -100).masked_fill(batch["attention_mask"] == 0, -100)
    )
    theirs_loss = theirs(**batch, mm_token_type_ids=(batch["input_ids"] == IMAGE).int(), labels=labels).loss
    ours_loss = model(**batch, labels=labels).loss
    assert ours_loss.item() == pytest.approx(theirs_loss.item(), abs=2e-6)  # measured 5e-7


@pytest.mark.parametrize(
    "method",
    [
        Method(name="static", kernel="2x2", sites=(1,)),
        Method(name="random_drop", sites=(2,)),
        Method(name="dpn", sites=(1, 3), positions="keep"),
        Method(name="dpn", sites=(1, 2), experts=("1x1", "1x2", "2x2")),
    ],
    ids=lambda method: f"{method.name}-{method.positions}",
)
def test_methods_run_and_samples_do_not_depend_on_their_batch(model, batch, method) -> None:
    model.configure_method(method)
    model.eval()
    out = model(**batch)
    assert out.routing.visual_tokens == (24, 0, 22)
    assert out.routing.visual_tokens_per_stage(0)[-1] <= 24
    alone = model(
        input_ids=batch["input_ids"][2:],
        pixel_values=batch["pixel_values"][96:],
        image_grid_thw=GRIDS[1:],
        attention_mask=batch["attention_mask"][2:],
    )
    assert alone.routing.route(0) == out.routing.route(2)
    torch.testing.assert_close(alone.logits[0], out.logits[2], atol=1e-6, rtol=1e-4)  # measured 6e-8


def test_static_pooling_is_the_smaller_image(model, batch) -> None:
    """Positions are counted anew: pooled after layer 1, the layers above see the image as one of half the size."""
    model.configure_method(Method(name="static", kernel="2x2", sites=(1,)))
    seen: list[Tensor] = []
    rotary = model.model.language_model.rotary_emb
    rotary.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True)
    model.eval()(**batch)
    before, after = (ids[:, 0] for ids in seen)
    # Sample 0: three tokens, a 4x6 image, four tokens; then 2x3.
    assert before[:, :3].tolist() == [[0, 1, 2]] * 3
    assert before[1, 3:27].tolist() == [3 + cell // 6 for cell in range(24)]
    assert before[2, 3:27].tolist() == [3 + cell % 6 for cell in range(24)]
    assert before[:, 27].tolist() == [9] * 3
    assert after[1, 3:9].tolist() == [3, 3, 3, 4, 4, 4]
    assert after[2, 3:9].tolist() == [3, 4, 5, 3, 4, 5]
    assert after[:, 9].tolist() == [6] * 3


@pytest.mark.parametrize("method", [Method(name="dense"), Method(name="static", sites=(2,), positions="keep")])
def test_decoding_continues_behind_the_last_position(model, batch, method) -> None:
    """Two given tokens against the cache, and all at once."""
    model.configure_method(method)
    model.eval()
    rows = [0, 2]
    given = torch.tensor([[20, 21], [22, 23]])
    for row, tokens in zip(rows, given, strict=True):
        length = int(batch["attention_mask"][row].sum())
        images = {"pixel_values": batch["pixel_values"][:96], "image_grid_thw": GRIDS[:1]}
        if row == 2:
            images = {"pixel_values": batch["pixel_values"][96:], "image_grid_thw": GRIDS[1:]}
        ids = batch["input_ids"][row : row + 1, :length]
        cache = PackedCache()
        model(ids, past_key_values=cache, **images)
        for token in tokens:
            logits = model(token[None, None], past_key_values=cache).logits
        whole = model(torch.cat([ids, tokens[None]], dim=1), **images).logits
        torch.testing.assert_close(logits, whole, atol=1e-6, rtol=1e-4)  # measured 6e-8


def test_a_sliding_window_equals_transformers(batch) -> None:
    torch.manual_seed(0)
    config = qwen_config(use_sliding_window=True, sliding_window=8, max_window_layers=2)
    theirs = Qwen2_5_VLForConditionalGeneration(config).eval()
    ours = DpnForConditionalGeneration(DpnConfig(base_config=theirs.config)).eval()
    ours.load_state_dict(theirs.state_dict())
    expected = their_logits(theirs, batch)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        torch.testing.assert_close(ours(**batch).logits[row], expected[row, length - 1], atol=1e-6, rtol=1e-4)


def test_generation_equals_transformers(theirs, model, batch) -> None:
    """Greedy and beams; ours pads on the right, theirs has to pad on the left."""
    length = batch["attention_mask"].sum(dim=1).tolist()
    for row, images in ((0, slice(0, 96)), (2, slice(96, None))):
        ids = batch["input_ids"][row : row + 1, : length[row]]
        inputs = {"pixel_values": batch["pixel_values"][images], "image_grid_thw": GRIDS[row // 2 : 1 + row]}
        kwargs = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": 95, "pad_token_id": 0}
        for beams in (1, 3):
            expected = theirs.generate(
                ids, **inputs, mm_token_type_ids=(ids == IMAGE).int(), num_beams=beams, use_cache=True, **kwargs
            )
            assert model.generate(ids, **inputs, num_beams=beams, **kwargs).tolist() == expected.tolist()


def test_cost_without_an_account_of_the_tower(model, batch) -> None:
    routing = model(**batch).routing
    assert routing.num_images == (1, 0, 2)
    assert routing.prefill_cost(0, "swiglu").ratio == 1.0
    with pytest.raises(ValueError, match="vision tower has no account"):
        routing.cost(0)


def test_text_only_training_touches_the_tower(model) -> None:
    model.configure_method(Method(name="dpn", sites=(1,)))
    model.train()
    ids = torch.tensor([[5, 6, 7]])
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_does_not_fit_is_named(model, batch) -> None:
    with pytest.raises(ValueError, match="pixel_values are given but there is no image_grid_thw"):
        model(**{key: value for key, value in batch.items() if key != "image_grid_thw"})
    taller = {"image_grid_thw": GRIDS * torch.tensor([[1, 1, 1], [1, 2, 1], [1, 1, 1]])}
    with pytest.raises(ValueError, match="46 image placeholders, pixel_values 3 images of 52 visual tokens"):
        model(**(batch | taller | {"pixel_values": torch.randn(208, 3 * 2 * 4 * 4)}))
    with pytest.raises(ValueError, match="only still images"):
        model(**(batch | {"image_grid_thw": torch.tensor([[2, 8, 6], [1, 4, 6], [1, 8, 8]])}))
    with pytest.raises(ValueError, match="image_grid_thw counts 184 patches, pixel_values hold 183"):
        model(**(batch | {"pixel_values": batch["pixel_values"][1:]}))
    with pytest.raises(ValueError, match="no fixed image grid"):
        model.num_visual_tokens()
