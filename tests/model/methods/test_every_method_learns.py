"""Properties that every registered method has in training, and when its weights are stored; see `method_cases.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.shapes import model_shape
from dpn_model.cost.ledger import PROJECTOR, Ledger
from dpn_model.processing import DpnProcessor
from dpn_model.tiny import tiny_config
from tests.model.methods.method_cases import Case
from tests.model.methods.subject import MIXED, PICTURE, TEXT, TURNS, Batch, Subject, each_case, own_weights


@pytest.fixture
def subject(processor: DpnProcessor, name: str, case: Case) -> Subject:
    return Subject.made(name, case, processor)


def learned(subject: Subject, batch: Batch, *, checkpointed: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and the gradient of every weight that has one."""
    model = subject.model.train()
    model.zero_grad()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(3)  # what is drawn in training
    loss = model(**batch).loss
    loss.backward()
    model.gradient_checkpointing_disable()
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    assert loss.isfinite(), f"loss = {loss}"
    assert [name for name, gradient in found.items() if not gradient.isfinite().all()] == [], "gradients not finite"
    return loss.detach(), found


def silent(model: DpnForConditionalGeneration, found: dict[str, Tensor], *beside: str) -> list[str]:
    """Weights without a gradient; `beside`: those whose names hold one of these need none."""
    return [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and name not in found and not any(part in name for part in beside)
    ]


@each_case
def test_every_weight_gets_its_gradient_and_recomputed_layers_change_none(subject: Subject) -> None:
    batch = subject.answered(*MIXED)
    loss, plain = learned(subject, batch)
    # Of the tower, what lies behind the layer that is read has none.
    assert silent(subject.model, plain, "vision_tower") == []
    again, recomputed = learned(subject, batch, checkpointed=True)
    torch.testing.assert_close(again, loss, atol=1e-6, rtol=1e-6)
    for name, gradient in plain.items():
        torch.testing.assert_close(
            recomputed[name], gradient, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@each_case
def test_what_a_method_brings_learns_from_pictures(subject: Subject) -> None:
    own = own_weights(subject.model)
    trained = {name for name, weight in own.items() if weight.requires_grad}
    _, found = learned(subject, subject.answered(*MIXED))
    assert not trained or any(found[name].any() for name in trained), f"gradients of {sorted(trained)} are all zero"


@each_case
@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "recomputed"])
def test_texts_alone_run_all_weights(subject: Subject, checkpointed: bool) -> None:
    """Sharded training: a rank whose samples have no picture runs what the others run."""
    _, found = learned(subject, subject.answered(TEXT, TEXT), checkpointed=checkpointed)
    assert silent(subject.model, found, "vision_tower") == []


@each_case
@torch.no_grad()
def test_what_is_planned_of_a_training_is_what_runs(subject: Subject) -> None:
    """Every time the sample goes through the decoder, and what is spent beside it."""
    shape, settings = model_shape(subject.model.config.base), subject.model.config.method_settings
    routing = subject.model.train()(**subject.answered(PICTURE)).routing
    copies = subject.spec.plan_training(settings, shape, routing.text_tokens[0])
    assert len(copies) == routing.num_samples
    for number, planned in enumerate(copies):
        ran = routing.ledger(number)
        for costs in (prefill_of, Ledger.mean_visual_tokens, billed_beside):
            low, mine, high = (costs(one) for one in (planned.cheapest, ran, planned.dearest))
            assert low <= mine <= high, f"copy {number}, {costs.__name__}"


def prefill_of(ledger: Ledger) -> int:
    return ledger.prefill(model_shape(tiny_config(64).base).decoder, "true").total


def billed_beside(ledger: Ledger) -> int:
    """Without probes and what follows from the question's words, which a plan need not know; and without pooling, which
    costs more on cheaper routes."""
    beside = {"probe", "tower", "selector", "pooling", PROJECTOR}
    return sum(macs for tag, macs in ledger.macs.items() if tag not in beside)


@each_case
def test_a_batch_of_one_sample_trains(subject: Subject) -> None:
    learned(subject, subject.answered(TURNS))


@each_case
@torch.no_grad()
def test_a_stored_model_is_the_same_model(subject: Subject, tmp_path: Path) -> None:
    model, batch = subject.model, subject.prompts(*MIXED)
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.config.method_settings == model.config.method_settings
    own, theirs = own_weights(model), own_weights(again)
    assert own.keys() == theirs.keys()
    assert [name for name in own if not torch.equal(own[name], theirs[name])] == [], "weights differ"
    assert torch.equal(again(**batch).logits, model(**batch).logits)
