"""VisPCO at work: a prediction in front of the first layer, a ranked drop behind every one (arXiv 2604.15188).

At inference rows are dropped, ranked by the asking row's attention in the layer before (FastV's), and once dropped they
stay so. In training a sample runs twice in one batch: whole, and masked by a bias on the keys of what is dropped
(`PackedSequence.key_bias_T`), through which the schedule gets its gradient. The masked copy computes what the dropped
one would, to a millionth, and spares nothing, as with the authors.

Decided here, where code and paper could not be read: the predictor hears the prompt up to the first answer, and no
gradient of it reaches the embeddings; a batch of training begins somewhere in the cycle of budgets and its samples take
the ones that follow, so that no position has to be stored.

Shape letters: B samples with a picture, T packed rows, V visual tokens of one picture, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, TokenReducer, joined
from dpn_model.methods.keeping import best_rows, columns_of
from dpn_model.methods.probe import ATTENTION, TURNS, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.vispco.choice import Choice
from dpn_model.methods.vispco.losses import BudgetGap, Fidelity
from dpn_model.methods.vispco.mask import bias_of, ranks_of, straight_through_mask
from dpn_model.methods.vispco.predictor import Multiplier, Predictor
from dpn_model.methods.vispco.spec import BUDGETS, VispcoSettings, predictor_macs
from dpn_model.packing import PackedSequence


def build(settings: VispcoSettings, host: Host) -> Parts:
    """The predictor, a site behind every layer but the last, and two copies in training."""
    reducers: dict[int, TokenReducer] = {0: Shaping(settings, host.hidden_size, host.num_layers)}
    reducers |= {layer: Pruning(layer, settings) for layer in range(1, host.num_layers)}
    return Parts(reducers, losses=(Fidelity(settings), BudgetGap(settings)), copies=2)


class Shaping(TokenReducer):
    """Leaves every sample's schedule in the batch, and drops nothing."""

    looks = frozenset({TURNS})

    def __init__(self, settings: VispcoSettings, hidden_size: int, num_layers: int) -> None:
        super().__init__(0)
        self.settings = settings
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.predictor = Predictor(hidden_size, num_layers)
        self.multiplier = Multiplier(settings.multiplier_speed)

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Predict for every sample with a picture; of two copies, for the second."""
        tokens = state.visual_tokens()
        originals = state.num_samples // state.copies
        samples = [sample for sample in range(originals) if tokens[sample]]
        rows = [_heard(state, sample) for sample in samples]
        choices: list[Choice | None] = [None] * state.num_samples
        if samples or self.training or self.joins_ranks:
            budgets = self._budgets(len(samples), is_training=state.copies > 1)
            predicted_B2, multiplier = self._predict(state, rows, budgets), self.multiplier()
            if self.training or self.joins_ranks:
                state = state.with_hidden(joined(state.hidden_TD, [predicted_B2, multiplier]))
            for place, (sample, (layer, ratio)) in enumerate(zip(samples, predicted_B2.tolist(), strict=True)):
                made_for = budgets[place], self.num_layers, tokens[sample]
                choices[sample - originals] = Choice(predicted_B2[place], layer, ratio, *made_for, multiplier)
        spent = [0] * state.num_samples
        for sample, own in zip(samples, rows, strict=True):
            spent[sample] = predictor_macs(self.hidden_size, len(own))
        told = tuple(str(count) if count else "-" for count in tokens)
        record = ReductionRecord(0, tokens, tokens, told, macs={"predictor": tuple(spent)})
        return replace(state, passages=tuple(choices)), record

    def _budgets(self, samples: int, *, is_training: bool) -> list[float]:
        if not is_training:
            return [self.settings.budget] * samples
        first = int(torch.randint(len(BUDGETS), ()))
        return [BUDGETS[(first + number) % len(BUDGETS)] for number in range(samples)]

    def _predict(self, state: PackedSequence, rows: Sequence[np.ndarray], budgets: Sequence[float]) -> Tensor:
        """float32[B, 2]."""
        places = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
        heard_RD = state.hidden_TD.detach()[torch.from_numpy(places).to(state.hidden_TD.device)]
        budgets_B1 = heard_RD.new_tensor(budgets).view(-1, 1)
        predicted_B2: Tensor = self.predictor(heard_RD, [len(own) for own in rows], budgets_B1)
        return predicted_B2


def _heard(state: PackedSequence, sample: int) -> np.ndarray:
    """int64[n]: rows of a sample up to the one that asks first."""
    start, end = state.starts[sample], state.starts[sample] + state.lengths[sample]
    asking = state.asking_rows_R[(state.asking_rows_R >= start) & (state.asking_rows_R < end)]
    return np.arange(start, asking[0] + 1 if len(asking) else end)


class Pruning(TokenReducer):
    """Brings every picture to what its sample's schedule leaves behind this layer."""

    looks = frozenset({ATTENTION, TURNS})

    def __init__(self, layer: int, settings: VispcoSettings) -> None:
        super().__init__(layer)
        self.settings = settings

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Mask the second of two copies, or drop."""
        if state.copies > 1:
            return self._masked(state, probe)
        counts = self._counts(state, probe, is_fitted=self.settings.ratio == "fitted")
        dropping = {image.sample for image, count in zip(state.images, counts, strict=True) if count < image.num_tokens}
        before = state.visual_tokens()
        if dropping:
            weights = probe.attention(_asking(state, dropping))
            scores = [
                weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)]
                if image.sample in dropping
                else state.hidden_TD.new_zeros(image.num_tokens, dtype=torch.float32)
                for image in state.images
            ]
            rows = [ImageRows.kept(kept) for kept in best_rows(scores, counts)]
            state, _ = replace_image_rows(state, rows, keep_positions=True)
        return state, self._record(before, state.visual_tokens(), state.visual_tokens())

    def _masked(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Nothing is dropped; rows beyond a schedule's count lose their weight in attention."""
        counts = self._counts(state, probe, is_fitted=False)
        tokens, left = state.visual_tokens(), [0] * state.num_samples
        pruned = {sample for sample, choice in enumerate(state.passages) if choice is not None}
        weights = probe.attention(_asking(state, pruned))
        bias_T = state.hidden_TD.new_zeros(len(state.hidden_TD), dtype=torch.float32)
        is_kept_T = torch.ones_like(bias_T, dtype=torch.bool) if state.key_bias_T is None else state.key_bias_T > -1
        rows, biases = [], []
        for image, count in zip(state.images, counts, strict=True):
            left[image.sample] += count
            if image.sample not in pruned:
                continue
            here = slice(image.start, image.start + image.num_tokens)
            score_V = weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)]
            rank_V = ranks_of(score_V, is_kept_T[here])
            share = state.passages[image.sample].share(self.layer)
            mask_V = straight_through_mask(rank_V, share, count, self.settings.temperature)
            rows.append(torch.arange(here.start, here.stop, device=bias_T.device))
            biases.append(bias_of(mask_V))
        bias_T = bias_T.index_copy(0, torch.cat(rows), torch.cat(biases))
        return replace(state, key_bias_T=bias_T), self._record(tokens, tokens, left)

    def _counts(self, state: PackedSequence, probe: Probe, *, is_fitted: bool) -> list[int]:
        """Tokens of every picture behind this layer; all of them where the sample has no schedule."""
        counts = []
        for entered, now in zip(probe.entered, state.images, strict=True):
            choice: Choice | None = state.passages[now.sample]
            wanted = choice.count(self.layer, entered.num_tokens, is_fitted=is_fitted) if choice else now.num_tokens
            counts.append(min(now.num_tokens, wanted))
        return counts

    def _record(self, before: tuple[int, ...], after: tuple[int, ...], told: Sequence[int]) -> ReductionRecord:
        """`told`: tokens per sample that count."""
        choices = tuple(str(count) if tokens else "-" for tokens, count in zip(before, told, strict=True))
        return ReductionRecord(self.layer, before, after, choices)


def _asking(state: PackedSequence, samples: set[int]) -> np.ndarray:
    """int64[Q]: of the rows that ask, those of some samples."""
    ends = np.cumsum(state.lengths)
    owner_R = np.searchsorted(ends, state.asking_rows_R, side="right")
    return state.asking_rows_R[np.isin(owner_R, list(samples))]
