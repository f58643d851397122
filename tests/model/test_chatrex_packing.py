"""Rows of objects in a packed batch: ragged numbers, cached decoding, pooling beside them, gradients, the bill."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.chatrex.objects import box_features
from dpn_model.packing import TokenKind
from tests.model.toy_chatrex import IMAGE_ID, LLAMA, OBJECT_ID, QWEN, ROUTER_ID, VOCAB, built, toy_config

TEXT = [1, 10]
QUESTION = [11, 12, ROUTER_ID, 13]


@pytest.fixture(params=[LLAMA, QWEN], ids=["llama", "qwen2"])
def model(request: Any) -> DpnForConditionalGeneration:
    return built(toy_config(text_config=request.param))


def sample(boxes: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """A picture, its boxes, a question; index tokens are ids 20 and up."""
    generator = torch.Generator().manual_seed(seed)
    objects = [row for number in range(boxes) for row in (20 + number % 16, OBJECT_ID)]
    corner = torch.rand(boxes, 2, generator=generator) * 80
    size = 10 + torch.rand(boxes, 2, generator=generator) * 30
    return {
        "input_ids": torch.tensor([[*TEXT, *[IMAGE_ID] * 16, *objects, *QUESTION]]),
        "pixel_values": torch.randn(1, 3, 128, 128, generator=generator),
        "boxes": torch.cat([corner, corner + size], dim=1),
    }


def together(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Padded on the right."""
    longest = max(one["input_ids"].shape[1] for one in samples)
    ids, mask = torch.zeros(len(samples), longest, dtype=torch.long), torch.zeros(len(samples), longest)
    for row, one in enumerate(samples):
        length = one["input_ids"].shape[1]
        ids[row, :length], mask[row, :length] = one["input_ids"][0], 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.cat([one["pixel_values"] for one in samples]),
        "boxes": torch.cat([one["boxes"] for one in samples]),
    }


def test_identity_routes_are_a_loop_over_transformers_modules(model: DpnForConditionalGeneration) -> None:
    batch, base = sample(3), model.model
    ids = batch["input_ids"]
    with torch.no_grad():
        embedded = base.language_model.embed_tokens(ids.clamp(max=VOCAB - 1))
        embedded[0, 2:18] = base.get_image_features(batch["pixel_values"]).pooler_output[0]
        maps = base.vision_tower.slow(batch["pixel_values"], output_hidden_states=True).hidden_states[1:]
        features = box_features([one[0] for one in maps], batch["boxes"].double().numpy(), 128)
        embedded[0, 19:24:2] = base.object_projector(features)
        plain = type(base.language_model)(model.config.base.text_config).eval()
        plain.load_state_dict(base.language_model.state_dict())
        expected = model.lm_head(plain(inputs_embeds=embedded).last_hidden_state[0, -1])
        model.configure_method(Method(scaling="off"))
        model.set_route(["1x1"] * 3)
        found = model(**batch).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["dense", "dpn", "fastv", "random_drop"])
def test_a_batch_of_ragged_boxes_is_its_samples(model: DpnForConditionalGeneration, method: str) -> None:
    model.configure_method({"name": method})
    samples = [sample(0, 1), sample(100, 2), sample(1, 3), sample(16, 4)]
    with torch.no_grad():
        batched = model(**together(samples))
        alone = [model(**one) for one in samples]
    for row, one in enumerate(alone):
        torch.testing.assert_close(batched.logits[row], one.logits[0], atol=2e-5, rtol=1e-4)
        assert batched.routing.route(row) == one.routing.route(0)
    assert batched.routing.num_objects == (0, 100, 1, 16)
    assert batched.routing.text_tokens == (6, 206, 8, 38)


def test_cached_decoding_is_recomputing(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn"))
    batch = together([sample(2, 5), sample(7, 6), sample(0, 7)])
    cached = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=None)
    again = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=None, use_cache=False)
    assert torch.equal(cached, again)


def test_a_site_leaves_rows_of_objects_as_they_are(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn", scaling="off"))
    model.set_route(["2x2", "2x2", "1x1"])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for reducer in model.reducers.values():
        reducer.register_forward_hook(lambda _module, given, out: seen.append((objects(given[0]), objects(out[0]))))
    with torch.no_grad():
        out = model(**together([sample(4, 1), sample(0, 2)]))
    assert len(seen) == 3
    for before, after in seen:
        assert len(before) == 4
        assert torch.equal(before, after)
    assert out.routing.visual_tokens_per_stage(0) == (16, 4, 1, 1)


def objects(state: Any) -> torch.Tensor:
    return state.hidden_TD[state.kind_T == TokenKind.OBJECT]


def test_gradients_reach_towers_projectors_and_index_rows(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn", selection="top1"))
    model.train()
    batch = sample(3)
    batch["input_ids"] = torch.cat([batch["input_ids"], torch.tensor([[21, 22]])], dim=1)
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -2:] = batch["input_ids"][:, -2:]
    model(**batch, labels=labels).loss.backward()
    base = model.model
    assert base.object_projector[0].weight.grad.abs().sum() > 0
    assert base.multi_modal_projector[0].weight.grad.abs().sum() > 0
    stem = base.vision_tower.slow.embeddings.patch_embeddings.weight
    assert stem.grad.abs().sum() > 0
    assert base.language_model.embed_tokens.weight.grad[20:23].abs().sum(dim=1).min() > 0
    for first in model.parameters():
        assert first.grad is None or torch.isfinite(first.grad).all()


@pytest.mark.parametrize("ids", [torch.tensor([[1, 10, 11, 12]]), None], ids=["no picture", "no boxes"])
def test_without_boxes_every_module_still_joins(model: DpnForConditionalGeneration, ids: torch.Tensor | None) -> None:
    model.train()
    batch = {"input_ids": ids} if ids is not None else sample(0)
    labels = batch["input_ids"].masked_fill(batch["input_ids"] >= ROUTER_ID, -100)
    model(**batch, labels=labels).loss.backward()
    for weight in model.model.object_projector.parameters():
        assert weight.grad is not None
        assert not weight.grad.any()


def test_boxes_are_on_the_bill_of_dense_and_method_alike(model: DpnForConditionalGeneration) -> None:
    with torch.no_grad():
        few, many = (model(**sample(count)).routing.cost(0, "swiglu") for count in (1, 3))
    assert many.objects == 3 * few.objects > 0
    assert many.total > few.total
    assert many.method == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"boxes": torch.zeros(1, 4)}, "input_ids hold 2 object placeholders, boxes 1"),
        ({"boxes": None}, "input_ids hold 2 object placeholders, boxes 0"),
        ({"pixel_values": None}, "image placeholders"),
    ],
)
def test_boxes_and_placeholders_must_agree(
    model: DpnForConditionalGeneration, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        model(**(sample(2) | change))
