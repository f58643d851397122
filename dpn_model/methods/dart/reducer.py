"""DART's choice: pivots by the size of their keys in the finished layer, then what resembles each pivot least.

Shape letters: T packed rows, V visual tokens of one picture, P pivots, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dpn_model.methods.contract import Host, Parts, TokenReducer, per_sample
from dpn_model.methods.dart.spec import TAG, DartSettings
from dpn_model.methods.probe import ATTENTION, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.packing import ImageSpan, PackedSequence, TokenKind


def build(settings: DartSettings, host: Host) -> Parts:
    """One drop."""
    return Parts({layer: Dart(layer, settings) for layer in settings.resolve_sites(host.num_layers)})


class Dart(TokenReducer):
    """Keeps visual pivots and, pivot by pivot, what resembles it least.

    Pivots take their turns in the order of their places, visual ones first (the authors walk a set of Python, whose
    order is nobody's choice). Text pivots stand between the picture and the end of its prompt: what answers say in
    training chooses nothing. A prompt with too little text behind the picture gives the text in front as well.
    """

    looks = frozenset({ATTENTION})

    def __init__(self, layer: int, settings: DartSettings) -> None:
        super().__init__(layer)
        self.settings = settings

    @torch.no_grad()
    def _pivots(self, state: PackedSequence, image: ImageSpan, size_T: Tensor, is_text_T: np.ndarray) -> Tensor:
        """int64[P]: packed rows, visual ones first."""
        asking = state.asking_rows_R
        end = int(min((row for row in asking if row >= image.start), default=state.starts[image.sample])) + 1
        behind = image.start + image.num_tokens
        text = np.flatnonzero(is_text_T[behind:end]) + behind
        if len(text) < self.settings.text_pivots:
            start = state.starts[image.sample]
            text = np.flatnonzero(is_text_T[start:end]) + start
        visual, _ = self.settings.counts(image.num_tokens)
        rows = torch.from_numpy(text).to(size_T.device)
        return torch.cat(
            [
                image.start + _largest(size_T[image.start : image.start + image.num_tokens], visual),
                rows[_largest(size_T[rows], self.settings.text_pivots)],
            ]
        )

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Work out likeness picture by picture, copy it to the host once, choose there."""
        tokens_in = state.visual_tokens()
        size_T = probe.queries_keys()[1].detach().float().abs().sum(dim=(1, 2))
        unit_TD = normalize(probe.normed().float(), dim=1)
        is_text_T = (state.kind_T == TokenKind.TEXT).cpu().numpy() if state.images else np.empty(0, bool)
        found, spent = [], {}
        for number, image in enumerate(state.images):
            pivots = self._pivots(state, image, size_T, is_text_T)
            likeness_PV = unit_TD[pivots] @ unit_TD[image.start : image.start + image.num_tokens].T
            found.append(torch.cat([(pivots - image.start)[:, None].to(likeness_PV), likeness_PV], dim=1))
            spent[number] = len(pivots) * image.num_tokens * unit_TD.shape[1]
        rows = [
            ImageRows.kept(
                chosen(both_PX[:, 1:], both_PX[:, 0].astype(np.int64), *self.settings.counts(image.num_tokens))
            )
            for both_PX, image in zip(_on_host(found), state.images, strict=True)
        ]
        after, _ = replace_image_rows(state, rows, keep_positions=self.settings.positions == "keep")
        tokens_out = after.visual_tokens()
        choices = tuple(str(out) if before else "-" for before, out in zip(tokens_in, tokens_out, strict=True))
        return after, ReductionRecord(self.layer, tokens_in, tokens_out, choices, macs={TAG: per_sample(state, spent)})


def chosen(likeness_PV: np.ndarray, pivots_P: np.ndarray, visual: int, others: int) -> np.ndarray:
    """int64, ascending: the first `visual` pivots, and `others` tokens that pivots bring along.

    Every pivot brings as many, the first ones one more where they do not come out even; of equally unlike ones the
    first.
    """
    is_kept_V = np.zeros(likeness_PV.shape[1], dtype=bool)
    is_kept_V[pivots_P[:visual]] = True
    share, more = divmod(others, len(likeness_PV))
    for number, likeness_V in enumerate(likeness_PV):
        order = np.argsort(likeness_V, kind="stable")
        order = order[~is_kept_V[order]]
        is_kept_V[order[: share + (number < more)]] = True
    return np.flatnonzero(is_kept_V)


def _largest(size_V: Tensor, count: int) -> Tensor:
    """int64[count], ascending."""
    return size_V.sort(descending=True, stable=True).indices[:count].sort().values


def _on_host(found: Sequence[Tensor]) -> list[np.ndarray]:
    """One copy from the device for all of them."""
    if not found:
        return []
    flat = torch.cat([one.flatten() for one in found]).cpu().numpy()
    ends = np.cumsum([one.numel() for one in found])[:-1]
    return [part.reshape(one.shape) for part, one in zip(np.split(flat, ends), found, strict=True)]
