"""TwigVLM: the twig is the base's layers until it is trained, and learns alone (arXiv 2503.14075; peer-methods 6.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import base_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.contract import Parts, TokenReducer
from dpn_model.methods.probe import ATTENTION, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.twigvlm.spec import SPEC, TwigVlmSettings
from dpn_model.packing import PackedSequence

MakeBatch = Callable[..., dict[str, Tensor]]


@pytest.mark.parametrize(
    ("keep", "mean", "total"), [(227, 192.1, 981.40), (134, 128.1, 653.55), (41, 64.19, 328.81), (0.394, 192.1, 981.40)]
)
def test_the_table_of_the_specification(keep: float, mean: float, total: float) -> None:
    shape = base_shape("llava-1.5-7b")
    ledger = SPEC.plan(TwigVlmSettings(keep=keep), shape, 0).dearest
    assert ledger.mean_visual_tokens() == pytest.approx(mean, abs=0.05)
    assert ledger.prefill(shape.decoder, "eq8").total / 1e9 == pytest.approx(total, abs=0.005)
    assert ledger.macs["twig"] / 1e12 == pytest.approx(3 * 3.8172 / 32, rel=1e-4)
    assert ledger.visual_tokens[-1] == 0


def test_a_budget_counts_the_layers_in_front_and_behind() -> None:
    assert at_budget(SPEC, TwigVlmSettings(), base_shape("llava-1.5-7b"), 128.125 / 576).keep == pytest.approx(
        134 / 576, abs=1 / 576
    )


class Looker(TokenReducer):
    """Takes nothing away and keeps what the finished layer looked at."""

    looks = frozenset({ATTENTION})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        self.attention, self.state = probe.attention(), state
        tokens = state.visual_tokens()
        return state, ReductionRecord(self.layer, tokens, tokens, ("all",) * len(tokens))


@torch.no_grad()
def test_an_untrained_twig_is_the_bases_next_layers(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(["is it", "what colour is it ?", "is there a red circle ?"])
    seen = Looker(5)
    model.parts = Parts({5: seen})
    model(**batch)
    model.configure_method({"name": "twigvlm"})
    twig = model.parts.reducers[2]
    probes: list[Probe] = []
    twig.register_forward_pre_hook(lambda module, given: probes.append(given[1]))
    routing = model(**batch).routing
    branch = probes[0].run(list(twig.layers), [0, 2])
    torch.testing.assert_close(branch.state.hidden_TD, seen.state.of_samples([0, 2]).hidden_TD)
    for ours, theirs in zip(branch.attention, (seen.attention[0], seen.attention[2]), strict=True):
        torch.testing.assert_close(ours, theirs)
    first = seen.state.images[0].start
    assert [one.start for one in branch.state.images] == [first, branch.state.lengths[0] + first]
    assert routing.visual_tokens_per_stage(0) == (64, 25, 0)
    for own, base in zip(twig.layers, model.model.language_model.layers[2:5], strict=True):
        for mine, theirs in zip(own.parameters(), base.parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert mine is not theirs


def test_the_twigs_loss_is_that_of_a_decoder_that_ends_there(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    batch = training_batch(router=False)
    model.configure_method({"name": "twigvlm"})
    alone = model(**batch).loss
    both = model.train()(**batch).loss
    model.eval().configure_method({"name": "dense"})
    model.model.language_model.layers = model.model.language_model.layers[:5]
    torch.testing.assert_close(both, alone + model(**batch).loss)


def test_a_twig_on_a_frozen_base_learns_alone(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({"name": "twigvlm"})
    model.requires_grad_(False)
    model.reducers.requires_grad_(True)
    out = model.train()(**training_batch(router=False))
    out.loss.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.reducers.parameters())
    assert model.parts.reducers[2].early is None
    model.requires_grad_(True)
    model.zero_grad()
    twig = model.parts.reducers[2]
    model(**{key: one for key, one in training_batch(router=False).items() if key != "labels"})
    twig.early.hidden_TD.sum().backward()  # nothing in front of the twig
    assert {name.split(".")[0] for name, one in model.named_parameters() if one.grad is not None} == {"reducers"}


@torch.no_grad()
def test_layers_cache_what_they_ran_and_texts_pay_no_twig(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method({"name": "twigvlm", "keep": 9})
    batch = prompt_batch(["is it"])
    cache = PackedCache()
    routing = model(**batch, **{CACHE_NAME: cache}).routing
    text = routing.text_tokens[0]
    assert [sum(cache.stage(layer).lengths) - text for layer in range(8)] == [64, 64, 9, 9, 9, 9, 0, 0]
    step = model(input_ids=torch.tensor([[9]]), **{CACHE_NAME: cache})
    assert step.logits.isfinite().all()
    words = model(input_ids=torch.tensor([[3, 9, 10]])).routing
    assert words.ledger(0).macs.get("twig", 0) == 0
    assert words.route(0) == ("-", "-")


def test_a_patch_of_an_earlier_method_is_not_copied(model: DpnForConditionalGeneration) -> None:
    model.configure_method({"name": "toy_ffn"})  # patches the FFN of layer 5
    model.configure_method({"name": "twigvlm"})
    assert "forward" not in vars(model.parts.reducers[2].layers[2].mlp)
    assert len(list(model.reducers.parameters())) == 3 * len(list(model.model.language_model.layers[0].parameters()))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"sites": (2, 4)}, "twigvlm has one twig"),
        ({"depth": 7}, "allowed: 1 to 6"),
        ({"wipe": 0.2}, "wipe = 0.2 is layer 2, not behind the twig's layer 2; allowed: shares from 0.375 to 1"),
    ],
)
def test_what_is_refused(model: DpnForConditionalGeneration, wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        SPEC.plan(TwigVlmSettings(**wrong), model.model_shape, 0)
    with pytest.raises(ValueError, match=line):
        model.configure_method({"name": "twigvlm", **wrong})
