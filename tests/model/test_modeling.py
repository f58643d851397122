"""The model as a whole: parity with transformers, batch invariance, routes, losses, saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from dpn_model import DpnForConditionalGeneration, Method, RoutingLoss
from dpn_model.cache import PackedCache
from dpn_model.processing import DpnProcessor

MakeBatch = Callable[..., dict[str, Tensor]]
METHODS = [
    Method(name="dense"),
    Method(name="static", kernel="2x2"),
    Method(name="static", kernel="1x2"),
    Method(name="random_drop"),
    Method(name="dpn"),
    Method(name="dpn", scaling="straight_through", positions="keep"),
]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]


def _twin(model: DpnForConditionalGeneration) -> LlavaForConditionalGeneration:
    twin = LlavaForConditionalGeneration(model.config.base).eval()
    twin.load_state_dict(model.state_dict())
    return twin


def test_dense_loss_and_gradients_equal_transformers(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    batch = training_batch(router=False)
    twin = _twin(model)
    ours, theirs = model(**batch).loss, twin(**batch).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=2e-6)  # measured 2.4e-7
    ours.backward()
    theirs.backward()
    other = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        if other[name].grad is not None:
            torch.testing.assert_close(parameter.grad, other[name].grad, atol=2e-6, rtol=1e-3)  # measured < 4e-7


def test_identity_route_without_scaling_equals_the_base(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    batch = training_batch()
    dense = model(**batch).loss
    model.configure_method(Method(name="dpn", scaling="off"))
    model.set_route(["1x1"] * 3)
    assert model.eval()(**batch).loss_lm.item() == dense.item()


def test_greedy_answers_equal_transformers(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    twin = _twin(model)
    for question in QUESTIONS:
        batch = prompt_batch([question], router=False)
        ours = model.generate(**batch, max_new_tokens=6)
        theirs = twin.generate(**batch, max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0)
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    "method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'kernel', '')}-{getattr(m, 'positions', '')}"
)
def test_a_samples_answer_does_not_depend_on_its_batch(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Method
) -> None:
    model.configure_method(method)
    model.eval()
    batch = prompt_batch(QUESTIONS)
    together = model(**batch).logits
    for row in range(len(QUESTIONS)):
        length = int(batch["attention_mask"][row].sum())
        alone = model(
            batch["input_ids"][row : row + 1, :length], pixel_values=batch["pixel_values"][row : row + 1]
        ).logits
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-4)  # measured 6e-7


# Without random dropping: it draws for a sample's ids, so a prompt with an answer behind it is another sample.
@pytest.mark.parametrize(
    "method",
    [m for m in METHODS if m.name != "random_drop"],
    ids=lambda m: f"{m.name}-{getattr(m, 'kernel', '')}-{getattr(m, 'positions', '')}",
)
def test_cached_decoding_equals_recomputing(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Method
) -> None:
    """Three given tokens, decoded one by one against the cache and all at once: same logits."""
    model.configure_method(method)
    model.eval()
    batch = prompt_batch(QUESTIONS[:2])
    given = torch.tensor([[7, 9, 8], [10, 6, 7]])
    cache = PackedCache(room=3)
    model(**batch, past_key_values=cache)
    for step in range(3):
        logits = model(given[:, step : step + 1], past_key_values=cache).logits
    for row in range(2):
        length = int(batch["attention_mask"][row].sum())
        ids = torch.cat([batch["input_ids"][row, :length], given[row]])[None]
        whole = model(ids, pixel_values=batch["pixel_values"][row : row + 1]).logits
        torch.testing.assert_close(logits[row], whole[0], atol=1e-5, rtol=1e-4)  # measured 8e-7


def test_text_only_batches_run_and_touch_every_parameter(
    model: DpnForConditionalGeneration, processor: DpnProcessor
) -> None:
    model.configure_method(Method(name="dpn"))
    model.train()
    batch = processor.collate([processor.encode_training([("what is it", "one")], [], router=True)])
    out = model(**batch)
    out.loss.backward()
    assert out.routing.route(0) == ("-", "-", "-")
    untouched = [name for name, p in model.named_parameters() if p.grad is None]
    # CLIP's final norm acts on the pooled output only, which LLaVA does not use.
    assert all("post_layernorm" in name for name in untouched), untouched


def test_router_learns_from_the_language_loss_alone(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method(Method(name="dpn", routing_loss=RoutingLoss(weight=0.0)))
    model.train()
    model(**training_batch()).loss.backward()
    assert model.reducers["2"].router.predictor.weight.grad.abs().sum() > 0


def test_hinge_pushes_towards_larger_kernels(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    torch.manual_seed(0)
    method = Method(name="dpn", temperature=1.0, routing_loss=RoutingLoss(weight=10.0, target=1.9, value="expectation"))
    model.configure_method(method)
    model.train()
    batch = training_batch()
    optimiser = torch.optim.Adam(model.reducers.parameters(), lr=0.02)
    first = last = model(**batch).loss_routing.item()
    for _ in range(20):
        out = model(**batch)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
        last = out.loss_routing.item()
    assert last < first - 0.3


def test_saved_folder_loads_with_its_method(model: DpnForConditionalGeneration, tmp_path: Path) -> None:
    model.configure_method(Method(name="dpn", experts=("1x1", "2x2"), temperature=2.0))
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.method_settings == model.config.method_settings
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_bad_inputs_are_named(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    batch = training_batch()
    with pytest.raises(ValueError, match="128 image placeholders, pixel_values 1 images of 64"):
        model(**(batch | {"pixel_values": batch["pixel_values"][:1]}))
    with pytest.raises(ValueError, match="labels have shape"):
        model(**(batch | {"labels": batch["labels"][:, 1:]}))
    model.configure_method(Method(name="dpn"))
    with pytest.raises(ValueError, match="no <ROUTER> token"):
        model(**training_batch(router=False))
    with pytest.raises(ValueError, match=r"route\[1\] = '4x4'; allowed: 1x1, 1x2, 2x2"):
        model.set_route(["1x1", "4x4", "1x1"])
