"""What `rivals_speed.py` times: one model on which every method takes its turn, and what each turn costs in FLOPs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from dpn_model import DpnForConditionalGeneration
from dpn_model.cost.flops import UNITS_PER_MAC
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.contract import Parts, TokenReducer
from dpn_model.methods.probe import ATTENTION, NEXT_LAYER, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.registry import DENSE, find_method
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import MethodSettings
from dpn_model.outputs import RoutingReport
from dpn_model.packing import PackedSequence
from dpn_platform.training.step_flops import Passes
from tests.benchmarks.packed_speed import clock
from tests.benchmarks.speed_case import ANSWER_TOKENS, picture_inputs

PREFILL, TRAINING = "prefill", "training step"
#: phases that generate, with their new tokens
ANSWERS = {"answer of 1": 1, "answer of 5": 5}
PHASES = (PREFILL, *ANSWERS, TRAINING)
#: of looks that attention on the fused kernel does not show by itself, in the table's words
_BEYOND = {ATTENTION: "attention rows", NEXT_LAYER: "next layer"}


@dataclass(frozen=True)
class Rival:
    """A method that takes its turn.

    Attributes:
        settings, parts: what is attached.
        note: why it does not run at the budget; "" where it does.
    """

    settings: MethodSettings
    parts: Parts
    note: str = ""

    @property
    def name(self) -> str:
        """Of the method."""
        return self.settings.name

    @property
    def ranks_by_attention(self) -> bool:
        """Whether a reducer asks for rows of the decoder's attention."""
        return any(reducer.looks & _BEYOND.keys() for reducer in self.parts.reducers.values())

    @property
    def beyond_kernel(self) -> tuple[str, ...]:
        """What it needs beside layers that run whole on the fused kernel."""
        looks = frozenset().union(*(part.looks for part in self.parts.all()))
        found = [told for look, told in _BEYOND.items() if look in looks]
        found += ["tower attention"] * any(look.startswith("layer:") for look in looks)
        return (*found, *["layer patches"] * bool(self.parts.patches))


def rivals_of(model: DpnForConditionalGeneration, names: Sequence[str], budget: float) -> tuple[list[Rival], list[str]]:
    """Dense, then the named methods at a depth-weighted share of visual tokens; a line for each that does not fit."""
    rivals: list[Rival] = []
    left_out: list[str] = []
    for name in (DENSE, *(name for name in names if name != DENSE)):
        spec = find_method(name)
        settings, note = spec.settings(), ""
        try:
            settings = at_budget(spec, settings, model.model_shape, budget)
        except ValueError as error:
            note = str(error)
        try:
            model.configure_method(settings)
        except ValueError as error:
            left_out.append(f"{name} is left out: {error}")
            continue
        rivals.append(Rival(settings, model.parts, note))
    return rivals, left_out


class ByPlace(TokenReducer):
    """Leaves every sample as many visual tokens as a method did, taken by place alone."""

    def __init__(self, layer: int, counts: Sequence[int]) -> None:
        super().__init__(layer)
        self.counts = counts

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Evenly spread rows; samples have one picture each."""
        rows = []
        for image in state.images:
            count = self.counts[image.sample]
            rows.append(ImageRows.kept(np.arange(count) * image.num_tokens // count))
        after, _ = replace_image_rows(state, rows)
        before = state.visual_tokens()
        return after, ReductionRecord(self.layer, before, after.visual_tokens(), ("by place",) * len(before))


def twin_of(rival: Rival, routing: RoutingReport) -> Rival | None:
    """The same token counts in every layer, by place alone.

    None where layers, tower or projector run something else than the base does: no method by place does the same.
    """
    parts = rival.parts
    if parts.patches or parts.resizer or parts.projector or not routing.records:
        return None
    reducers: dict[int, TokenReducer] = {
        record.layer: ByPlace(record.layer, record.tokens_out) for record in routing.records
    }
    return Rival(rival.settings, Parts(reducers))


class Track:
    """A model and a batch of one size: pictures between words, a part of them supervised in training.

    Args:
        model: its tower is frozen.
        options: `device`, `text` and `seed` as in `packed_speed.py`.
        batch: samples.
    """

    def __init__(self, model: DpnForConditionalGeneration, options: argparse.Namespace, batch: int) -> None:
        self.model, self.device, self.batch = model, options.device, batch
        self.options = argparse.Namespace(**(vars(options) | {"batch": batch}))
        model.model.vision_tower.requires_grad_(False)

    def inputs(self, phase: str) -> tuple[torch.Tensor, ...]:
        """As the model takes them, with as many placeholders a picture as the attached projector gives."""
        generator = torch.Generator().manual_seed(self.options.seed)  # the same words and pictures for everyone
        ids, mask, pixels = picture_inputs(self.model, self.options, generator)
        if phase in ANSWERS:
            return ids.to(self.device), mask.to(self.device), pixels
        if phase == PREFILL:
            return ids, mask, pixels
        ends = mask.sum(dim=1, keepdim=True) + torch.arange(ANSWER_TOKENS)
        ids, mask = (pad(one, (0, ANSWER_TOKENS)) for one in (ids, mask))
        labels = torch.full_like(ids, -100).scatter(1, ends, 4)
        return ids.scatter(1, ends, 4), mask.scatter(1, ends, 1), pixels, labels

    def run(self, rival: Rival, phase: str) -> float:
        """Milliseconds of one pass: CPU time on a CPU, as `packed_speed.clock` tells it."""
        model = self.model
        model.attach(rival.settings, rival.parts)
        model.train(phase == TRAINING)
        inputs = self.inputs(phase)
        start = clock(self.device)
        if phase == TRAINING:
            model(*inputs).loss.backward()
        elif phase in ANSWERS:
            model.generate(*inputs, max_new_tokens=ANSWERS[phase], min_new_tokens=ANSWERS[phase])
        else:
            with torch.no_grad():
                model(*inputs)
        spent = clock(self.device) - start
        model.zero_grad()
        return spent

    def routing(self) -> RoutingReport:
        """Of the latest pass."""
        assert self.model.last_routing is not None
        return self.model.last_routing

    def flops(self, rival: Rival, phase: str) -> float:
        """Operations (`true`) that the latest pass ran: tower, projector, decoder, method and head.

        What a method without weights spends carries no gradient, and is counted once in training too.
        """
        routing = self.routing()  # of every copy that a method trains of a sample
        costs = [routing.cost(sample, "true") for sample in range(routing.num_samples)]
        if phase != TRAINING:
            later = ANSWERS.get(phase, 1) - 1
            return float(sum(cost.total + later * (cost.decode_per_token + cost.lm_head) for cost in costs))
        passes = Passes.of(self.model, is_checkpointed=False)
        has_weights = any(True for part in rival.parts.all() for _ in part.parameters())
        decoder = self.model.model_shape.decoder
        head = UNITS_PER_MAC["true"] * decoder.hidden_size * decoder.vocab_size * ANSWER_TOKENS
        return sum(
            passes.vision * cost.vision
            + passes.projector * cost.projector
            + passes.decoder * cost.prefill
            + (3.0 if has_weights else 1.0) * cost.method
            + passes.head * head
            for cost in costs
        )
