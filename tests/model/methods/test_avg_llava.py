"""AVG-LLaVA: granularities, the router and what it learns from (arXiv 2410.02745; spec peer-methods 9)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.avg_llava.losses import router_loss
from dpn_model.methods.avg_llava.router import EncoderLayer, heard_words
from dpn_model.methods.avg_llava.spec import SPEC, AvgLlavaSettings
from dpn_model.methods.instruction import instruction_rows

MakeBatch = Callable[..., dict[str, Tensor]]


def test_granularities_and_the_routers_bill_on_the_papers_grid() -> None:
    shape = base_shape("llava-1.5-7b")
    plan = SPEC.plan(AvgLlavaSettings(), shape, 64)
    assert (plan.cheapest.visual_tokens[-1], plan.dearest.visual_tokens[-1]) == (36, 576)
    tokens = 576 + 288 + 144 + 72 + 36 + 32
    assert plan.dearest.macs == {"router": tokens * (7 * 4096**2 + 2 * 4096 + 5 * 4096 + 5)}
    across = SPEC.plan(AvgLlavaSettings(attention="tokens"), shape, 64).dearest.macs["router"]
    assert across - plan.dearest.macs["router"] == 2 * tokens * (tokens - 1) * 4096


def test_words_are_ranked_by_their_likeness_to_the_picture() -> None:
    picture = torch.tensor([[1.0, 0.0], [10.0, 0.0]])  # length says nothing
    words = torch.tensor([[0.0, 3.0], [5.0, 5.0], [0.5, 0.0], [-1.0, 0.0]])
    assert heard_words(picture, words, 3).tolist() == [[0.5, 0.0], [5.0, 5.0], [0.0, 3.0]]
    assert heard_words(picture, words[:1], 3).tolist() == [[0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("attention", "pictures"), [("tokens", 1), ("pictures", 3)])
@torch.no_grad()
def test_the_layer_is_pytorchs_transformer_layer(attention: str, pictures: int) -> None:
    ours = EncoderLayer(32, attention, 0.1).eval()
    theirs = nn.TransformerEncoderLayer(32, 8, 32, batch_first=attention == "tokens").train(False)
    names = {
        "self_attn.in_proj_": "queries_keys_values.",
        "self_attn.out_proj.": "output.",
        "linear1.": "wide.",
        "linear2.": "narrow.",
    }
    state = theirs.state_dict()
    for name, own in names.items():
        state = {key.replace(name, own): one for key, one in state.items()}
    ours.load_state_dict(state)
    tokens = torch.randn(pictures, 5, 32)
    torch.testing.assert_close(ours(tokens, [pictures]), theirs(tokens), atol=1e-5, rtol=1e-5)


def test_the_loss_ranks_and_names_the_best() -> None:
    probabilities = torch.tensor([[0.5, 0.2, 0.3]])
    losses = torch.tensor([[1.0, 0.4, 0.9]])  # in order: 1, 2, 0
    logs = [math.log(one) for one in (0.2, 0.3, 0.5)]
    first = (logs[1] - logs[0] + 0.5) + (logs[2] - logs[1] + 0.1)
    second = logs[2] - logs[0] + 2 * 0.6
    expected = first / 2 + second + 0.1 * -math.log(0.2)
    torch.testing.assert_close(router_loss(probabilities.log(), losses, AvgLlavaSettings()), torch.tensor(expected))
    apart = torch.tensor([[9.0, 0.0, -9.0]])  # what is ranked by more than the margins costs nothing
    weights = AvgLlavaSettings(ce_weight=0.0)
    assert router_loss(apart, torch.tensor([[0.1, 0.2, 0.3]]), weights).item() == 0


def test_every_granularity_is_trained_and_judged(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({"name": "avg_llava", "dropout": 0.0})
    batch = training_batch(router=False)
    granularities = ("4x4", "2x4", "2x2", "1x2", "1x1")
    losses: list[Tensor] = []
    judged: list[Tensor] = []
    for name in granularities:
        model.set_route([name])
        assert model(**batch).routing.route(0) == (name,)
        losses.append(model(**batch).loss_lm)
        pictured = [{key: one[b : b + 1] for key, one in batch.items()} for b in (0, 2)]
        for sample, pixels in zip(pictured, batch["pixel_values"], strict=True):
            sample["pixel_values"] = pixels[None]
        judged.append(torch.stack([model(**sample).loss_lm for sample in pictured]))
    model.set_route(None)
    logits = model(**batch).routing.records[0].router_logits_BE
    out = model.train()(**batch)
    torch.testing.assert_close(out.loss_lm, torch.stack(losses).mean())
    torch.testing.assert_close(
        out.loss_terms["router"], router_loss(logits, torch.stack(judged, dim=1), AvgLlavaSettings())
    )
    torch.testing.assert_close(out.loss, out.loss_lm + out.loss_terms["router"])
    spent = [out.routing.ledger(sample).macs.get("router", 0) for sample in range(15)]
    assert [bool(one) for one in spent] == [True, False, True] + [False] * 12


def test_the_routers_loss_teaches_the_router_alone(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method({"name": "avg_llava"})
    model.train()(**training_batch(router=False)).loss_terms["router"].backward()
    taught = {name.split(".")[0] for name, one in model.named_parameters() if one.grad is not None}
    assert taught == {"reducers"}
    model.zero_grad()
    model(**training_batch(router=False)).loss_lm.backward()
    router = [one.grad for one in model.reducers.parameters()]
    assert all(one is not None and not one.any() for one in router)


def test_the_router_hears_no_answer(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({"name": "avg_llava"})
    seen: list[Any] = []
    model.parts.reducers[0].register_forward_hook(lambda module, given, out: seen.append(given[0]))
    batch = training_batch(router=True)
    model(**batch)
    (state,) = seen
    for sample in (0, 2):
        rows = instruction_rows(state, sample)
        column = int((batch["labels"][sample] != -100).nonzero()[0])
        first = int(batch["attention_mask"][sample].nonzero()[0])
        assert rows[-1] == state.asking_rows_R[[0, None, 2][sample]] == state.starts[sample] + column - first - 1
        assert set(state.kind_T[torch.from_numpy(rows)].tolist()) == {0}


@torch.no_grad()
def test_pictures_of_a_sample_share_a_choice(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method({"name": "avg_llava"})
    one = prompt_batch(["is it"])
    two = {
        "input_ids": torch.cat([one["input_ids"], one["input_ids"]], dim=1),
        "pixel_values": one["pixel_values"].repeat(2, 1, 1, 1),
    }
    routing = model(**two).routing
    assert routing.records[0].router_logits_BE.shape == (1, 5)
    tokens = 64 + 32 + 16 + 8 + 4 + 32
    assert routing.ledger(0).macs["router"] == 2 * tokens * (7 * 96**2 + 2 * 2 * 96 + 96 * 5 + 5)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"pool": "conv"}, "allowed: avg, max"),
        ({"sites": (0, 4)}, "avg_llava chooses once"),
        ({"experts": ("1x1", "1x1")}, "one is repeated"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        AvgLlavaSettings(**wrong)


def test_a_base_that_does_not_fit_is_refused(model: DpnForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="a weight for every token"):
        AvgLlavaSettings().on_grid(None)
    with pytest.raises(ValueError, match="1 of them fit a grid of 8x8"):
        model.configure_method({"name": "avg_llava", "experts": ["9x9", "2x2"]})
    model.configure_method({"name": "avg_llava"})
    with pytest.raises(ValueError, match="allowed: one of 4x4, 2x4, 2x2, 1x2, 1x1"):
        model.set_route(["8x8"])
