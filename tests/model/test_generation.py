"""Generation: equal to transformers' own LLaVA on identity routes, and every strategy on mixed routes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LogitsProcessor, LogitsProcessorList, TextStreamer

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.cache import PackedCache
from dpn_model.processing import DpnProcessor

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
PAD = 0
ENDLESS = {"eos_token_id": 10_000, "pad_token_id": PAD}  # no early end: every step is compared


def _left_padded(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same prompts, padded on the left."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    shifts = (mask.shape[1] - mask.sum(dim=1)).tolist()
    rolled = {
        "input_ids": torch.stack([row.roll(shift) for row, shift in zip(ids, shifts, strict=True)]),
        "attention_mask": torch.stack([row.roll(shift) for row, shift in zip(mask, shifts, strict=True)]),
    }
    return batch | rolled


def _twin(model: DpnForConditionalGeneration) -> LlavaForConditionalGeneration:
    twin = LlavaForConditionalGeneration(model.config.base).eval()
    twin.load_state_dict({name: value for name, value in model.state_dict().items() if "reducers" not in name})
    return twin


def _identity(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn", scaling="off"))
    model.set_route(["1x1"] * 3)
    model.eval()


def _mixed(model: DpnForConditionalGeneration, batch: dict[str, Tensor]) -> None:
    """Fresh routers, drawn until they send the prompts of `batch` different ways."""
    for seed in range(100):
        torch.manual_seed(seed)
        model.configure_method(Method(name="dpn", temperature=1.0))
        routing = model.eval()(**batch).routing
        if len({routing.route(sample) for sample in range(routing.num_samples)}) > 1:
            return
    raise AssertionError("100 draws of the routers sent every prompt the same way")


def _new(generated: Tensor, batch: dict[str, Tensor]) -> list[list[int]]:
    return generated[:, batch["input_ids"].shape[1] :].tolist()


STRATEGIES = {
    "greedy": {"do_sample": False},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "penalty": {"repetition_penalty": 1.3, "num_beams": 2, "length_penalty": 0.5},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_identity_routes_generate_what_transformers_does(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, strategy: str
) -> None:
    """One batch of unequal lengths: transformers needs it padded on the left, ours takes either side."""
    settings = STRATEGIES[strategy] | ENDLESS | {"max_new_tokens": 6}
    batch = prompt_batch(QUESTIONS, router=True)
    left = _left_padded(batch)
    theirs = _twin(model).generate(**left, **settings)
    _identity(model)
    assert model.generate(**left, **settings).tolist() == theirs.tolist()
    if strategy != "penalty":  # a penalty is for ids that occur, padding included
        assert _new(model.generate(**batch, **settings), batch) == _new(theirs, left)
    assert len({tuple(row) for row in _new(theirs, left)}) > 1


def test_prefill_logits_of_all_tokens_equal_transformers(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(QUESTIONS[:1])
    theirs = _twin(model)(**batch).logits
    _identity(model)
    ours = model(**batch, logits_to_keep=theirs.shape[1]).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)  # measured 1.2e-6


@pytest.mark.parametrize("strategy", ["greedy", "beams"])
def test_a_samples_answer_does_not_depend_on_its_neighbours(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, strategy: str
) -> None:
    settings = STRATEGIES[strategy] | ENDLESS | {"max_new_tokens": 5}
    batch = _left_padded(prompt_batch(QUESTIONS))
    _mixed(model, batch)
    together = _new(model.generate(**batch, **settings), batch)
    copies = len(together) // len(QUESTIONS)
    for row in range(len(QUESTIONS)):
        keep = batch["attention_mask"][row].bool()
        alone = {"input_ids": batch["input_ids"][row][keep][None], "pixel_values": batch["pixel_values"][row][None]}
        assert _new(model.generate(**alone, **settings), alone) == together[row * copies : (row + 1) * copies]


class _Record(LogitsProcessor):
    """Keeps the logits of every step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores.clone())
        return scores


def test_decoding_with_a_cache_equals_recomputing_everything(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    """Sites pool by the same fixed route in both, so only the cache differs."""
    model.configure_method(Method(name="dpn"))
    model.set_route(["1x2", "2x2", "1x1"])
    model.eval()
    batch = prompt_batch(QUESTIONS)
    recorded = []
    for use_cache in (True, False):
        record = _Record()
        model.generate(
            **batch, **ENDLESS, max_new_tokens=5, use_cache=use_cache, logits_processor=LogitsProcessorList([record])
        )
        recorded.append(torch.stack(record.steps))
    torch.testing.assert_close(recorded[0], recorded[1], atol=1e-5, rtol=1e-4)  # measured 9e-7


def test_prompts_are_prefilled_once_for_all_beams(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = prompt_batch(QUESTIONS)
    _mixed(model, batch)
    seen: list[int] = []
    encode = model.image_side.encode
    monkeypatch.setattr(
        model.image_side, "encode", lambda base, pixels, _: (seen.append(len(pixels)), encode(base, pixels, _))[1]
    )
    model.generate(**batch, num_beams=4, max_new_tokens=3)
    assert seen == [3]
    assert model.last_routing.num_samples == 3


def test_sampling_follows_the_generator(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)
    _mixed(model, batch)
    settings = {"do_sample": True, "top_k": 0, "num_return_sequences": 2, "max_new_tokens": 6, **ENDLESS}
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.generate(**batch, **settings).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 6


def test_the_streamer_gets_every_token(
    model: DpnForConditionalGeneration,
    prompt_batch: MakeBatch,
    processor: DpnProcessor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.configure_method(Method(name="dpn"))
    batch = prompt_batch(QUESTIONS[:1])
    streamer = TextStreamer(processor.tokenizer, skip_prompt=True)
    generated = model.generate(**batch, **ENDLESS, max_new_tokens=5, streamer=streamer)
    assert capsys.readouterr().out.split() == processor.tokenizer.decode(_new(generated, batch)[0]).split()


def test_answers_end_at_the_end_token_and_right_padding_draws_no_advice(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some sample's second token is declared the end: behind it comes padding, the others go on."""
    model.configure_method(Method(name="static", kernel="1x2"))
    batch = prompt_batch(QUESTIONS)
    logging.getLogger("transformers").propagate = True
    free = _new(model.generate(**batch, **ENDLESS, max_new_tokens=5), batch)
    end = free[0][1]
    ended = _new(model.generate(**batch, max_new_tokens=5, eos_token_id=end, pad_token_id=PAD), batch)
    for before, after in zip(free, ended, strict=True):
        length = before.index(end) + 1 if end in before else len(before)
        assert after[:length] == before[: min(length, len(after))]
        assert set(after[length:]) <= {PAD}
    assert "right-padding" not in caplog.text


def _second_turn(first: Tensor, mask: Tensor, words: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The conversation so far, padding behind an end masked, and new tokens padded on the right."""
    new = torch.tensor([row + [PAD] * (max(map(len, words)) - len(row)) for row in words])
    answers = first[:, mask.shape[1] :]
    masks = [mask, (answers != PAD).long(), (new != PAD).long()]
    return torch.cat([first, new], dim=1), torch.cat(masks, dim=1)


@pytest.mark.parametrize("eos", [10_000, None])
def test_a_second_turn_continues_the_cache(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, eos: int | None
) -> None:
    """Static pooling reads no router token, so one long prompt with the first turn's answer is the same computation."""
    model.configure_method(Method(name="static", kernel="1x2"))
    model.eval()
    batch = prompt_batch(QUESTIONS)
    if eos is None:  # the first sample ends after its second token, and its padding must be forgotten
        eos = _new(model.generate(**batch, **ENDLESS, max_new_tokens=5), batch)[0][1]
    cache = PackedCache(room=1)  # grows
    settings = {"max_new_tokens": 4, "eos_token_id": eos, "pad_token_id": PAD}
    first = model.generate(**batch, **settings, past_key_values=cache)
    routing = model.last_routing
    ids, mask = _second_turn(first, batch["attention_mask"], [[7, 8, 9], [10], [6, 7]])
    again = model.generate(ids, mask, past_key_values=cache, max_new_tokens=4, **ENDLESS)
    assert model.last_routing is routing, "nothing was pooled in the second turn"
    afresh = model.generate(ids, mask, batch["pixel_values"], max_new_tokens=4, **ENDLESS)
    assert again.tolist() == afresh.tolist()


def test_a_second_turn_branches_into_beams(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    _identity(model)
    batch = prompt_batch(QUESTIONS)
    cache = PackedCache()
    first = model.generate(**batch, **ENDLESS, max_new_tokens=3, past_key_values=cache)
    ids, mask = _second_turn(first, batch["attention_mask"], [[7, 8], [10, 9], [6, 7]])
    settings = {"max_new_tokens": 4, "num_beams": 3, **ENDLESS}
    again = model.generate(ids, mask, past_key_values=cache, **settings)
    afresh = model.generate(ids, mask, batch["pixel_values"], **settings)
    assert again.tolist() == afresh.tolist()


def test_bad_turns_and_settings_are_named(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)
    cache = PackedCache()
    first = model.generate(**batch, **ENDLESS, max_new_tokens=2, past_key_values=cache)
    ids, mask = _second_turn(first, batch["attention_mask"], [[7, 8], [10, 9], [6, 7]])
    with pytest.raises(ValueError, match="whole conversation"):
        model.generate(ids[:, -2:], mask, past_key_values=cache)
    with pytest.raises(ValueError, match="a new token for every sample"):
        model.generate(ids, mask.index_fill(1, torch.arange(cache.get_seq_length(), mask.shape[1]), 0),
                       past_key_values=cache)  # fmt: skip
    with pytest.raises(ValueError, match="images and their boxes are allowed in the first turn only"):
        model.generate(ids.masked_fill(ids == 7, model.image_token_id), mask, past_key_values=cache)
    with pytest.raises(ValueError, match="attention_mask differs from the one past_key_values were built with"):
        model.generate(ids, torch.ones_like(mask), past_key_values=cache)
    with pytest.raises(ValueError, match="use_cache = False"):
        model.generate(**batch, use_cache=False, num_beams=2)
