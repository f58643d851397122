"""GlimpsePrune: keeps what a learned row's glimpse shows to matter for the question (arXiv 2508.01548; frontier A1).

The glimpse rides with the prompt through the layers up to the site. What its heads look at there, and what the tower
saw in its levels, tells the predictor how likely every visual token is to be needed; those above a threshold stay, so
that every picture keeps its own number. The layers up to the site run on all tokens, so little of the prefill is saved;
what is saved is cache and decoding, for these layers forget what is dropped.

The authors train glimpse and predictor alone, which is `train.lr`, `projector_lr` and `vision_lr` at 0. Where the
decoder is trained too, its layers learn from the glimpse as from any other row. Masks: `target.py`.

Shape letters: I pictures, V visual tokens of one picture, N heads of the decoder, C width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, TokenReducer, joined
from dpn_model.methods.glimpse_prune.predictor import Glimpse, Predictor
from dpn_model.methods.glimpse_prune.spec import DEPTHS, GlimpsePruneSettings, glimpse_macs
from dpn_model.methods.glimpse_prune.target import Lesson, MaskLoss, chosen, masks
from dpn_model.methods.instruction import prompt_end
from dpn_model.methods.keeping import columns_of
from dpn_model.methods.probe import ATTENTION, GRADIENT, TURNS, Probe, level
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.packing import PackedSequence


def build(settings: GlimpsePruneSettings, host: Host) -> Parts:
    """One drop, and its loss."""
    (site,) = settings.resolve_sites(host.num_layers)
    pruner = Pruner(site, settings, host)
    return Parts({site: pruner}, losses=(MaskLoss(settings, pruner.lessons),))


class Pruner(TokenReducer):
    """See the module."""

    def __init__(self, layer: int, settings: GlimpsePruneSettings, host: Host) -> None:
        super().__init__(layer)
        sizes = Sizes.of(host.shape)
        assert host.shape is not None
        self.settings, self.shape, self.sizes = settings, host.shape, sizes
        self.levels = sizes.levels(settings.levels, DEPTHS)
        self.looks = frozenset({ATTENTION, GRADIENT, TURNS, *map(level, self.levels)})
        self.rider = Glimpse(layer, host.hidden_size)
        heads = host.shape.decoder.num_heads
        self.predictor = Predictor(heads, sizes.vision_size, len(self.levels), settings.width, settings.heads)
        #: what was seen of the training batch, for the loss, which takes it away
        self.lessons: list[Lesson] = []

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Predict, keep; a training batch of texts runs the predictor on a blank picture of one token."""
        self.lessons.clear()
        if not state.images:
            if self.training or self.joins_ranks:
                state = state.with_hidden(joined(state.hidden_TD, [self._blank(state.hidden_TD)]))
            return state, ReductionRecord.of_nothing(self.layer, state.num_samples)
        assert probe.vision is not None
        skipped = probe.vision.pictures[0].class_tokens
        levels = [probe.vision.level(index)[:, skipped:].detach() for index in self.levels]
        grid = state.images[0].height, state.images[0].width
        logits_LIV = self.predictor(self._glimpsed(state, probe).to(levels[0].dtype), levels, grid)
        if self.training:
            samples = tuple(image.sample for image in state.images)
            self.lessons.append(Lesson(logits_LIV, masks(state, probe, self.settings.mass), samples))
        kept = chosen(logits_LIV[-1], self.settings.threshold, self.settings.most(self.sizes.patches))
        return self._reduced(state, [ImageRows.kept(rows) for rows in kept])

    def _glimpsed(self, state: PackedSequence, probe: Probe) -> Tensor:
        """float32[I, V, N]."""
        samples = sorted({image.sample for image in state.images})
        looked = dict(zip(samples, probe.rider_attention(), strict=True))
        return torch.stack([looked[image.sample][:, columns_of(state, image)].T for image in state.images])

    def _blank(self, hidden_TD: Tensor) -> Tensor:
        """Logits of a picture of one token, which nobody reads."""
        attention = hidden_TD.new_zeros(1, 1, self.shape.decoder.num_heads)
        level_IVC = hidden_TD.new_zeros(1, 1, self.sizes.vision_size)
        logits: Tensor = self.predictor(attention, [level_IVC] * len(self.levels), (1, 1))
        return logits

    def _reduced(self, state: PackedSequence, rows: Sequence[ImageRows]) -> tuple[PackedSequence, ReductionRecord]:
        after, _ = replace_image_rows(state, rows, keep_positions=self.settings.positions == "keep")
        before, left = state.visual_tokens(), after.visual_tokens()
        glimpses, predictions = [0] * state.num_samples, [0] * state.num_samples
        each = self.settings.predictor_macs(self.sizes, self.shape.decoder.num_heads)
        for image in state.images:
            seen = prompt_end(state, image.sample) - state.starts[image.sample]
            glimpses[image.sample] = glimpse_macs(self.shape, self.layer, seen)
            predictions[image.sample] += each
        choices = tuple(str(out) if tokens else "-" for tokens, out in zip(before, left, strict=True))
        macs = {"glimpse": tuple(glimpses), "predictor": tuple(predictions)}
        is_forgotten = self.settings.early_cache == "pruned"
        return after, ReductionRecord(self.layer, before, left, choices, macs=macs, is_forgotten=is_forgotten)
