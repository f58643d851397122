"""HiDrop's three parts: a bypass, filters with a soft gradient, an exit (arXiv 2602.23699; spec peer-methods 6.8).

A filter ranks by the next layer's attention. Its choice is hard; in training the kept rows are multiplied by a mask
that is 1 and has the gradient of sigmoid(λ(c - a)): c are a picture's scores scaled to 0..1, λ its number of tokens.
So the loss teaches the ranking. The paper ranks c and learns the threshold a; here `keep` says how many are left, and a
lies between the last that is kept and the first that is dropped. And what is dropped is gone from the packed batch, so
that only kept rows pass a gradient on.

Shape letters: T packed rows, V visual tokens of one picture, D model width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import Host, LayerPatch, Parts, TokenReducer
from dpn_model.methods.hidrop.spec import HiDropSettings
from dpn_model.methods.keeping import Ranker, columns_of
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.probe import GRADIENT, NEXT_LAYER, Probe
from dpn_model.methods.records import PatchRecord, ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import kept_count
from dpn_model.packing import PackedSequence


def build(settings: HiDropSettings, host: Host) -> Parts:
    """A bypass for every layer in front of the injection, the filters, and the exit."""
    window = settings.window(host.num_layers)
    reducers: dict[int, TokenReducer] = {
        site: Filter(site, settings.positions, keep) for site, keep in window.filters.items()
    }
    if window.exit is not None:
        reducers[window.exit] = Exit(window.exit, settings.positions)
    return Parts(reducers, patches={layer: Bypass(layer) for layer in range(1, window.inject + 1)})


class Bypass(LayerPatch):
    """A layer that only text runs; visual tokens wait in the stream as the projector left them."""

    def forward(self, call: LayerCall) -> tuple[Tensor, PatchRecord | None]:
        """Everything runs where nothing is visual: text-only batches, and tokens behind a cache."""
        pictured = set() if call.state is None else {image.sample for image in call.state.images}
        choices = ["text" if sample in pictured else "-" for sample in range(len(call.lengths))]
        if not pictured:
            return call.run(), call.record(choices=choices)
        rows = np.flatnonzero(~call.is_visual_T)
        return call.merged(rows, call.run(rows)), call.record(choices=choices)


class Filter(Ranker):
    """Keeps what the rows that ask will look at most in the layer behind; the choice can be learned.

    Args:
        layer, positions: as in `Ranker`.
        keep: of a picture's tokens as they entered the decoder.
    """

    looks = frozenset({NEXT_LAYER, GRADIENT})

    def __init__(self, layer: int, positions: str, keep: float) -> None:
        super().__init__(layer, positions)
        self.keep = keep

    def count(self, entered: int, now: int) -> int:
        """Of the tokens that entered."""
        return min(now, kept_count(self.keep, entered))

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """Mean attention over heads and, in training, over turns."""
        weights = probe.next_attention()
        return [weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)] for image in state.images]

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """As `Ranker`; in training the kept rows carry the mask."""
        scores = self.scores(state, probe)
        if self.training:
            mask_T1 = state.hidden_TD.new_ones(len(state.hidden_TD), 1)
            for before, image, score in zip(probe.entered, state.images, scores, strict=True):
                count = self.count(before.num_tokens, image.num_tokens)
                if count < image.num_tokens:
                    places = torch.arange(image.start, image.start + image.num_tokens, device=mask_T1.device)
                    mask_T1 = mask_T1.index_copy(0, places, straight_through(score, count)[:, None].to(mask_T1.dtype))
            state = state.with_hidden(state.hidden_TD * mask_T1)
        return super().forward(state, probe)


def straight_through(score_V: Tensor, count: int) -> Tensor:
    """float[V] of ones, whose gradient is that of a sigmoid around the threshold between kept and dropped."""
    fixed = score_V.detach()
    low, spread = fixed.min(), (fixed.max() - fixed.min()).clamp(min=torch.finfo(fixed.dtype).tiny)
    scaled = (score_V - low) / spread
    ordered = scaled.detach().sort(descending=True).values
    soft = torch.sigmoid(len(score_V) * (scaled - (ordered[count - 1] + ordered[count]) / 2))
    return 1 + (soft - soft.detach())


class Exit(TokenReducer):
    """Leaves no visual token.

    Args:
        layer, positions: as in `Ranker`.
    """

    def __init__(self, layer: int, positions: str) -> None:
        super().__init__(layer)
        self.keeps_positions = positions == "keep"

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Text goes on alone."""
        tokens_in = state.visual_tokens()
        nothing = [ImageRows.kept(np.empty(0, dtype=np.int64)) for _ in state.images]
        after, _ = replace_image_rows(state, nothing, keep_positions=self.keeps_positions)
        choices = tuple("0" if tokens else "-" for tokens in tokens_in)
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), choices)
