"""Properties that every registered method has at inference, by `method_cases.py`; toy methods stand for every part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model.bases.shapes import model_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cost.bill import cost_parts
from dpn_model.cost.flops import CONVENTIONS
from dpn_model.cost.ledger import PROJECTOR, Ledger
from dpn_model.decoder import DecoderPass
from dpn_model.methods import registry
from dpn_model.packing import TokenKind
from dpn_model.processing import DpnProcessor
from tests.model.methods.method_cases import CASES, EVERY, Case
from tests.model.methods.subject import (
    MIXED,
    PICTURE,
    TEXT,
    TURNS,
    TWO_PICTURES,
    Batch,
    Subject,
    decided_by_prompt,
    each_case,
)

Make = Callable[..., Subject]
#: what probes bill, and what follows from the question's words; a plan need not know it
OF_PROBES, OF_WORDS = {"probe", "tower"}, {"selector"}
IDENTITIES = [row for row in EVERY if row[2].identity is not None]


@pytest.fixture
def made(processor: DpnProcessor) -> Make:
    return lambda name, case, **more: Subject.made(name, case, processor, **more)


@pytest.fixture
def subject(made: Make, name: str, case: Case) -> Subject:
    return made(name, case)


def close(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=lambda text: f"{what}: {text}")


def spent(ledger: Ledger) -> Ledger:
    """The same without tags that cost nothing."""
    return replace(ledger, macs={tag: macs for tag, macs in ledger.macs.items() if macs})


def test_every_registered_method_is_examined() -> None:
    assert set(CASES) == set(registry._OURS), "a new method needs a line in method_cases.py"


@pytest.mark.parametrize(("name", "case"), [row[1:] for row in IDENTITIES], ids=[row[0] for row in IDENTITIES])
@torch.no_grad()
def test_settings_that_change_nothing_give_dense_logits(made: Make, name: str, case: Case) -> None:
    subject = made(name, case, settings=case.identity, fresh=True)
    batch = subject.prompts(*MIXED, router=True)
    ours = subject.model(**batch, logits_to_keep=3)
    close(ours.logits, made("dense", Case(settings={})).model(**batch, logits_to_keep=3).logits, "logits")
    assert [ours.routing.prefill_cost(sample, "swiglu").ratio for sample in range(3)] == [1.0] * 3


@each_case
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(subject: Subject) -> None:
    together = subject.model(**subject.prompts(*MIXED), logits_to_keep=3)
    for number, sample in enumerate(MIXED):
        single = subject.model(**subject.prompts(sample), logits_to_keep=3)
        assert together.routing.route(number) == single.routing.route(0)
        assert spent(together.routing.ledger(number)) == spent(single.routing.ledger(0))
        close(together.logits[number], single.logits[0], f"logits of sample {number}")


@each_case
@torch.no_grad()
def test_the_same_question_has_the_same_answer_to_the_bit(subject: Subject) -> None:
    batch = subject.prompts(*MIXED)
    first = subject.model(**batch).logits
    subject.model(**subject.prompts(TURNS))  # nothing of it stays
    assert torch.equal(first, subject.model(**batch).logits)


@each_case
@torch.no_grad()
def test_what_is_planned_is_what_runs(subject: Subject) -> None:
    routing = subject.model(**subject.prompts(PICTURE)).routing
    ran, shape = routing.ledger(0), model_shape(subject.model.config.base)
    planned = subject.spec.plan(subject.model.config.method_settings, shape, routing.text_tokens[0])
    told = dict(zip(("cheapest", "ran", "dearest"), (planned.cheapest, ran, planned.dearest), strict=True))
    for measure in (Ledger.mean_visual_tokens, lambda one: one.kv_bytes(shape.decoder)):
        assert measure(planned.cheapest) <= measure(ran) <= measure(planned.dearest), told
    for convention in CONVENTIONS:
        low, mine, high = (one.prefill(shape.decoder, convention).total for one in told.values())
        assert low <= mine <= high, told
    if subject.spec.chooses == "fixed":
        assert planned.cheapest == planned.dearest
        assert (planned.dearest.packed, planned.dearest.stages) == (ran.packed, ran.stages)
        mine, theirs = cost_parts(shape, planned.dearest, "true"), routing.cost(0, "true")
        for part in ("vision", "projector", "prefill", "lm_head", "decode_per_token"):
            assert getattr(mine, part) == getattr(theirs, part), f"{part} of plan and run"
        named = dict(spent(planned.dearest).macs)
        named.pop(PROJECTOR, None)  # of a method's own projector the model knows it by its shape
        unknown = OF_PROBES | OF_WORDS if subject.spec.is_query_aware else OF_PROBES
        ignored = {PROJECTOR, *(unknown - named.keys())}
        assert named == {tag: macs for tag, macs in spent(ran).macs.items() if tag not in ignored}


@each_case
def test_what_is_billed_is_what_torch_counts(subject: Subject) -> None:
    batch = subject.prompts(PICTURE)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        routing = subject.model(**batch).routing
    counts = counter.get_flop_counts()
    flops = {name.removeprefix("DpnForConditionalGeneration."): sum(ops.values()) for name, ops in counts.items()}
    cost = routing.cost(0, "true")
    assert cost.vision == flops["model.vision_tower"]
    assert cost.projector == flops["model.multi_modal_projector"]
    assert cost.lm_head == flops["lm_head"]
    others = flops["Global"] - cost.vision - cost.projector - cost.lm_head
    others -= flops.get("model.language_model.rotary_emb", 0)  # tables that some versions form by a matrix product
    layers, beside = cost.prefill, cost.method
    told = f"FLOPs of the layers {layers}, beside them {routing.ledger(0).macs} multiply-accumulates"
    assert layers <= others, told
    assert not subject.case.is_counted or layers + beside == others, told


@each_case
@torch.no_grad()
def test_text_is_never_dropped_and_order_stays(subject: Subject) -> None:
    samples = MIXED if subject.case.one_picture else (*MIXED, TWO_PICTURES)
    batch = subject.prompts(*samples)
    _, done = subject.watched(batch)
    final, is_token = done.final, batch["attention_mask"].bool()
    ids, start = batch["input_ids"][is_token], 0
    assert sum(final.lengths) == len(final.hidden_TD) == len(final.kind_T) == len(final.position_ids_T)
    in_spans = [row for image in final.images for row in range(image.start, image.start + image.num_tokens)]
    assert in_spans == torch.nonzero(final.kind_T == TokenKind.VISION).flatten().tolist()
    for number, (before, after) in enumerate(zip(is_token.sum(1).tolist(), final.lengths, strict=True)):
        first = sum(is_token.sum(1).tolist()[:number])
        index, kind = final.token_index_T[start : start + after], final.kind_T[start : start + after]
        text = [first + row for row in range(before) if ids[first + row] != subject.model.image_token_id]
        assert index[kind != TokenKind.VISION].tolist() == text, f"text of sample {number}"
        visual = index[kind == TokenKind.VISION].tolist()
        assert final.weight_T is not None or ascending(visual), f"sample {number}: what was not merged changed places"
        positions = final.position_ids_T[start : start + after]
        assert ascending(positions[kind != TokenKind.VISION].tolist()), f"positions of text in sample {number}"
        bounds = [first - 1, *text, first + before]
        for row in visual:
            place = index.tolist().index(row)
            behind = sum(one < row for one in text)
            assert (kind[:place] != TokenKind.VISION).sum() == behind, f"sample {number}: token {row} left its place"
            assert bounds[behind] < row < bounds[behind + 1]
        start += after


def ascending(values: list[int]) -> bool:
    return all(one < other for one, other in pairwise(values))


@each_case
@torch.no_grad()
def test_a_text_alone_is_as_the_base_answers_it(subject: Subject, made: Make) -> None:
    batch = subject.prompts(TEXT, router=False)
    out = subject.model(**batch, logits_to_keep=3)
    assert out.logits.isfinite().all()
    if subject.case.acts_on_text:
        return
    close(out.logits, made("dense", Case()).model(**batch, logits_to_keep=3).logits, "logits")
    ledger = out.routing.ledger(0)
    assert ledger.prefill(subject.model.model_shape.decoder, "swiglu").ratio == 1.0


def visual_loads(ledger: Ledger, times: int = 1) -> list[tuple[int, ...]]:
    """Visual tokens of every layer: in the stream, in attention and FFN, and with keys."""
    return [
        tuple(times * rows.visual for rows in (load.stream, load.attention, load.ffn, load.keys))
        for count, load in ledger.stages
        for _ in range(count)
    ]


@each_case
@torch.no_grad()
def test_two_pictures_of_a_sample_are_each_reduced_as_one_is(subject: Subject) -> None:
    batch = subject.prompts(TWO_PICTURES)
    if subject.case.one_picture:
        with pytest.raises(ValueError, match="^[^\n]+$"):
            subject.model(**batch)
        return
    routing = subject.model(**batch).routing
    assert routing.num_images == (2,)
    if subject.spec.chooses == "fixed":
        one = subject.model(**subject.prompts(PICTURE)).routing.ledger(0)
        assert visual_loads(routing.ledger(0)) == visual_loads(one, 2)
        return
    shape = model_shape(subject.model.config.base)
    planned = subject.spec.plan(subject.model.config.method_settings, shape, 0)
    low, high = (2 * ledger.mean_visual_tokens() for ledger in planned)
    assert low <= routing.ledger(0).mean_visual_tokens() <= high


@each_case
@torch.no_grad()
def test_a_generated_answer_does_not_depend_on_its_batch(subject: Subject) -> None:
    new: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    together = subject.model.generate(**subject.prompts(*MIXED), **new)
    for number, sample in enumerate(MIXED):
        alone = subject.model.generate(**subject.prompts(sample), **new)
        assert together[number, -4:].tolist() == alone[0, -4:].tolist(), f"sample {number}"


def decisions(done: DecoderPass) -> tuple[Any, ...]:
    """Which visual tokens are left, and how many each part left."""
    kept = done.final.token_index_T[done.final.kind_T == TokenKind.VISION].tolist()
    loads = [tuple(rows.visual for rows in record.attention) for record in done.patches]
    return kept, [record.tokens_out for record in done.reductions], loads


@each_case
@torch.no_grad()
def test_the_cache_continues_what_a_whole_pass_would_say(subject: Subject) -> None:
    """A step of three tokens behind the prompt, against prompt and tokens in one pass under the prompt's decisions."""
    for sample in (PICTURE, TEXT):
        batch: Batch = subject.prompts(sample)
        ids, more, cache = batch["input_ids"], torch.tensor([[9, 10, 11]]), PackedCache()
        pixels = {key: one for key, one in batch.items() if key == "pixel_values"}
        with decided_by_prompt(ids.shape[1]):
            _, prompt = subject.watched(batch, **{CACHE_NAME: cache})
            step = subject.model(input_ids=more, **{CACHE_NAME: cache}, logits_to_keep=3).logits
            out, whole = subject.watched({"input_ids": torch.cat([ids, more], dim=1), **pixels}, logits_to_keep=3)
        assert step.isfinite().all()
        if not subject.case.reads_answers and not subject.case.forgets:
            assert decisions(whole) == decisions(prompt)
            close(step, out.logits, "logits")
