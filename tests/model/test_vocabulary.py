"""Embedding and head: one weight or two, more or fewer rows, and copies of a model that has run."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.tiny import tiny_config


def build(tied: bool, method: str = "dense") -> DpnForConditionalGeneration:
    config = tiny_config(30)
    for part in (config.base_config, config.base_config["text_config"]):
        part["tie_word_embeddings"] = tied
    torch.manual_seed(0)
    model = DpnForConditionalGeneration(config)
    model.configure_method(Method(name=method))
    return model.eval()


def batch(model: DpnForConditionalGeneration) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.tensor([[1, 7, *[model.image_token_id] * 64, 9, model.config.router_token_id, 11, 2]])
    return {"input_ids": ids, "pixel_values": torch.randn(1, 3, 96, 96)}


def one_step(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    labels = inputs["input_ids"].masked_fill(torch.arange(inputs["input_ids"].shape[1]) < 68, -100)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**inputs, labels=labels).loss.backward()
    optimiser.step()


def test_a_shared_weight_learns_as_in_transformers() -> None:
    """One parameter with the gradient of both of its uses."""
    model = build(tied=True)
    twin = LlavaForConditionalGeneration(model.config.base).eval()
    twin.load_state_dict(model.state_dict())
    assert twin.lm_head.weight is twin.get_input_embeddings().weight
    inputs = batch(model)
    for each in (model, twin):
        one_step(each, inputs)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in twin.named_parameters()]
    shared = "model.language_model.embed_tokens.weight"
    ours, theirs = (dict(each.named_parameters())[shared] for each in (model, twin))
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)  # measured 2e-7
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # measured 6e-8
    assert model.lm_head.weight is ours


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_one_weight_is_one_after_saving_and_copying(tied: bool, tmp_path: Path) -> None:
    model = build(tied, "dpn").train()
    one_step(model, batch(model))
    consolidated = {name: tensor.clone() for name, tensor in model.state_dict().items()}  # as sharded training has it
    model.save_pretrained(tmp_path, state_dict=consolidated)
    for again in (DpnForConditionalGeneration.from_pretrained(tmp_path), copy.deepcopy(model).eval()):
        assert (again.lm_head.weight is again.get_input_embeddings().weight) == tied
        assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
        again.set_route(["1x1", "2x2", "1x1"])
        model.eval().set_route(["1x1", "2x2", "1x1"])
        assert torch.equal(again(**batch(again)).logits, model(**batch(model)).logits)


def test_what_is_kept_of_a_step_holds_no_graph() -> None:
    model = build(tied=False, method="dpn").train()
    out = model(**batch(model))
    assert out.routing.records[0].router_probs_BE.requires_grad
    assert all(not record.router_probs_BE.requires_grad for record in model.last_routing.records)
    assert model.last_routing.route(0) == out.routing.route(0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("asked", "rows"), [({"new_num_tokens": 41}, 41), ({"new_num_tokens": 12}, 12)])
def test_a_resized_model_loads_as_it_was_saved(tied: bool, asked: dict[str, int], rows: int, tmp_path: Path) -> None:
    model = build(tied, "dpn")
    shape = model.model_shape.decoder
    before = model.get_input_embeddings().weight[: min(rows, 30)].clone()
    model.resize_token_embeddings(**asked)
    assert torch.equal(model.get_input_embeddings().weight[: len(before)], before)
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    for each in (model, again):
        assert each.config.get_text_config().vocab_size == each.lm_head.out_features == len(each.lm_head.weight) == rows
        assert (each.lm_head.weight is each.get_input_embeddings().weight) == tied
        assert each.model_shape.decoder != shape
    assert torch.equal(again(**batch(again)).logits, model(**batch(model)).logits)
    assert again(**batch(again)).logits.shape == (1, rows)
    assert again.config.router_token_id == model.config.router_token_id


def test_rows_are_padded_to_a_multiple(tmp_path: Path) -> None:
    model = build(tied=False)
    model.resize_token_embeddings(pad_to_multiple_of=64)
    model.save_pretrained(tmp_path)
    assert DpnForConditionalGeneration.from_pretrained(tmp_path).lm_head.out_features == 64


def test_the_router_keeps_its_row() -> None:
    model = build(tied=False)
    with pytest.raises(ValueError, match="new_num_tokens = 5 leaves no row for <ROUTER>, id 5; allowed: 6 or more"):
        model.resize_token_embeddings(5)
    assert len(model.lm_head.weight) == 30


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_routing_method_brings_the_row_that_its_token_needs(device: str) -> None:
    """Also for a plan, which has no weights."""
    config = tiny_config(30)
    config.router_token_id = 33
    with torch.device(device):
        model = DpnForConditionalGeneration(DpnConfig(base_config=config.base_config, router_token_id=33))
        model.configure_method(Method(name="static"))
        assert len(model.lm_head.weight) == 30
        model.configure_method(Method(name="dpn"))
    assert len(model.lm_head.weight) == model.get_input_embeddings().num_embeddings == 34
    assert model.config.get_text_config().vocab_size == 34
    if device == "cpu":
        assert 0.005 < model.lm_head.weight[30:].std() < 0.05
        assert model(**batch(model)).routing.num_samples == 1
