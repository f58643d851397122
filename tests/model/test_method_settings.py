"""What settings mean where they could surprise: modes, floors, turns, draws, and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.not_finite import NotFiniteError
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?", "is it red ?"]


def test_new_reducers_take_the_models_mode(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    """In training mode they drew: six identical forwards took six routes."""
    batch = prompt_batch(QUESTIONS)
    for is_training, routes_of_six in ((False, 1), (True, 6)):
        model.train(is_training).configure_method(Method())
        assert {module.training for module in model.modules()} == {is_training}
        torch.manual_seed(0)
        seen = {tuple(model(**batch).routing.route(sample) for sample in range(4)) for _ in range(6)}
        assert len(seen) == routes_of_six


@pytest.mark.parametrize("method", [Method(min_tokens=65), Method(name="random_kernel", min_tokens=1000)])
def test_no_floor_forbids_the_kernel_that_takes_nothing(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Method
) -> None:
    model.configure_method(method)
    assert model(**prompt_batch(QUESTIONS[:1])).routing.route(0) == ("1x1",) * 3
    model.configure_method(replace(method, experts=("1x2", "2x2")))
    with pytest.raises(ValueError, match=r"no expert of 1x2, 2x2 leaves the 8x8 grid .* \(min_tokens\); add 1x1"):
        model(**prompt_batch(QUESTIONS[:1]))


@pytest.mark.parametrize(("which", "sees_later_turns"), [("mean", True), ("last", True), ("first", False)])
def test_only_the_first_routing_token_is_causal_over_turns(
    model: DpnForConditionalGeneration, processor: DpnProcessor, which: str, sees_later_turns: bool
) -> None:
    """Probabilities behind the first turn's answer, with one second question and with another."""
    model.configure_method(Method(routing_token=which, temperature=0.1))  # type: ignore[arg-type]
    turns = [("<image>\nis there a red circle ?", "yes")]
    found = []
    for second in ([("what colour is it", "blue")], [("two ?", "no")], []):
        batch = processor.collate([processor.encode_training([*turns, *second], [picture(0)], router=True)])
        batch["pixel_values"] = normalise(batch["pixel_values"])
        found.append(model(**batch).routing.records[0].router_probs_BE)
    assert torch.allclose(found[0], found[1], atol=1e-6) is not sees_later_turns  # measured 0 and 0.01
    assert torch.allclose(found[0], found[2], atol=1e-6) is not sees_later_turns


def test_random_dropping_draws_per_sample_and_seed(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)

    def kept(seed: int, inputs: dict[str, Tensor]) -> list[tuple[int, ...]]:
        """Visual tokens that are left of every sample after the first site."""
        model.configure_method(Method(name="random_drop", sites=(2,), seed=seed))
        found = []
        reducer = model.reducers["2"]
        reducer.register_forward_hook(lambda module, given, result: found.append(result[0]))
        model(**inputs)
        after = found[0]
        rows = after.token_index_T.tolist()
        firsts = [int(mask.int().argmax()) for mask in inputs["input_ids"] == model.image_token_id]
        starts = torch.cumsum(inputs["attention_mask"].sum(dim=1), 0).tolist()
        begins = [0, *starts[:-1]]
        return [
            tuple(rows[image.start + n] - begins[image.sample] - firsts[image.sample] for n in range(image.num_tokens))
            for image in after.images
        ]

    together = kept(0, batch)
    assert len(set(together)) == 4
    assert all(len(set(subset)) == 32 and list(subset) == sorted(subset) for subset in together)
    length = int(batch["attention_mask"][2].sum())
    alone = {
        "input_ids": batch["input_ids"][2:3, :length],
        "attention_mask": batch["attention_mask"][2:3, :length],
        "pixel_values": batch["pixel_values"][2:3],
    }
    assert kept(0, alone) == together[2:3]
    assert kept(0, batch) == together
    assert not set(kept(1, batch)) & set(together)
    # Every token is as likely as another: 40 draws of 4 samples keep each in half of 160, 3 sigma = 19; measured 18.
    counts = torch.zeros(64)
    for seed in range(40):
        for subset in kept(seed, batch):
            counts[list(subset)] += 1
    assert float((counts - 80).abs().max()) <= 22


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_picture_that_is_not_finite_names_its_samples(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, value: float, is_training: bool
) -> None:
    batch = prompt_batch(QUESTIONS)
    batch["pixel_values"][1, 0, 3, 3] = batch["pixel_values"][3, 2, 50, 50] = value
    model.configure_method(Method())
    with pytest.raises(NotFiniteError, match="router_logits of samples 1, 3 hold NaN or infinity") as told:
        model.train(is_training)(**batch)
    assert isinstance(told.value, ValueError)
    assert told.value.places == (1, 3)
    named = told.value.named(["a", "b", "c", "d"])
    assert str(named).startswith("router_logits of rows b, d hold NaN")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scaling": "straight_through"}, "scaling = 'straight_through'; allowed: off, on"),
        ({"selection": "top1"}, "selection = 'top1'; allowed: sample"),
        ({"selection": "gumbel"}, "selection = 'gumbel'; allowed: sample"),
        ({"infeasible": "resample"}, "infeasible = 'resample'; allowed: renormalise"),
    ],
)
def test_a_score_that_would_be_no_gradient_is_refused(settings: dict[str, str], message: str) -> None:
    Method(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"router_gradient = 'score' with {message}"):
        Method(router_gradient="score", **settings)  # type: ignore[arg-type]
