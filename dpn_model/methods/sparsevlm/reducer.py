"""SparseVLM's sites: raters rank, the best are kept, some of the rest come back merged (arXiv 2410.04417).

The authors' code needs whole attention maps at three layers; here the layers stay on the fused kernel and only the
raters' rows are worked out. A site ranks by the layer it stands behind, which has run on all that was there.

Shape letters: N heads, Q raters, V visual tokens of one picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, TokenReducer
from dpn_model.methods.keeping import columns_of
from dpn_model.methods.probe import ATTENTION, EMBEDDINGS, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.sparsevlm.clusters import density_peaks
from dpn_model.methods.sparsevlm.raters import raters_of, rope_bias, with_raters
from dpn_model.methods.sparsevlm.spec import Counts, SparseVLMSettings, recycled_of
from dpn_model.packing import PackedSequence


def build(settings: SparseVLMSettings, host: Host) -> Parts:
    """Three sites.

    Raises:
        ValueError: sites that do not fit, or a correction for positions that the base does not have.
    """
    text = getattr(host.base, "text_config", None)
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    if settings.corrects_rope and "mrope_section" in rope:
        raise ValueError("rope_correction = true: this base has multimodal positions; allowed there: false")
    sites = settings.resolve_sites(host.num_layers)
    return Parts({layer: SparseVLM(layer, number, settings) for number, layer in enumerate(sites)})


class SparseVLM(TokenReducer):
    """One site; the first finds the raters for all.

    Args:
        layer: as in `TokenReducer`.
        number: of the site: 0, 1 or 2.
        settings: of the method.
    """

    def __init__(self, layer: int, number: int, settings: SparseVLMSettings) -> None:
        super().__init__(layer)
        self.number, self.settings = number, settings
        self.looks = frozenset({ATTENTION, EMBEDDINGS}) if not number else frozenset({ATTENTION})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Rank, keep, merge."""
        tokens_in, spent = state.visual_tokens(), np.zeros(state.num_samples, dtype=np.int64)
        if not self.number:
            state, of_raters = with_raters(state, probe.embeddings())
            spent += of_raters
        counts = [
            self.settings.counts(self.number, before.num_tokens, now.num_tokens)
            for before, now in zip(probe.entered, state.images, strict=True)
        ]
        scores = self.scores(state, probe)
        rows = self._rows(state, scores, counts)
        for image, count, raters in zip(state.images, counts, raters_of(state), strict=True):
            if count.merged:
                spent[image.sample] += recycled_of(image.num_tokens - count.kept) ** 2 * state.hidden_TD.shape[1]
            if self.settings.corrects_rope:
                spent[image.sample] += len(raters) * image.num_tokens * 2 * probe.rotary()[0].shape[1]
        after, _ = replace_image_rows(state, rows, keep_positions=self.settings.keeps_positions)
        tokens_out = after.visual_tokens()
        choices = tuple(str(out) if before else "-" for before, out in zip(tokens_in, tokens_out, strict=True))
        macs = {"selector": tuple(spent.tolist())}
        return after, ReductionRecord(self.layer, tokens_in, tokens_out, choices, macs=macs)

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """Mean attention of the raters over the heads that rank."""
        raters = raters_of(state)
        asking = np.unique(np.concatenate([np.empty(0, np.int64), *raters]))
        weights = probe.attention(asking)
        found = []
        for image, rows in zip(state.images, raters, strict=True):
            start = state.starts[image.sample]
            first = np.searchsorted(asking, start)
            places = torch.from_numpy(np.searchsorted(asking, rows) - first).to(state.hidden_TD.device)
            attention_NQV = weights[image.sample][:, places, columns_of(state, image)]
            if self.settings.corrects_rope:
                head_size = probe.queries_keys()[0].shape[-1]
                attention_NQV = attention_NQV / rope_bias(image, rows, probe.rotary(), head_size)
            heads = max(1, round(self.settings.head_share * len(attention_NQV)))
            strongest = attention_NQV.sum(dim=(1, 2)).sort(descending=True, stable=True).indices[:heads]
            found.append(attention_NQV[strongest].mean(dim=(0, 1)))
        return found

    def _rows(self, state: PackedSequence, scores: list[Tensor], counts: list[Counts]) -> list[ImageRows]:
        """What becomes of every picture; one copy from the device for all of them."""
        found: list[Tensor] = []
        for image, score, (kept, merged) in zip(state.images, scores, counts, strict=True):
            order = score.detach().sort(descending=True, stable=True).indices
            found.append(order[:kept].sort().values)
            if merged:
                again = order[kept : kept + recycled_of(image.num_tokens - kept)]
                found += [again, *density_peaks(state.hidden_TD[image.start + again], merged)]
        if not found:
            return []
        ends = np.cumsum([0, *(len(one) for one in found)])
        everything = torch.cat(found).cpu().numpy()
        parts = iter([everything[a:b] for a, b in pairwise(ends)])
        return [_made_of(parts, bool(merged)) for _, merged in counts]


def _made_of(parts: Iterator[np.ndarray], is_merged: bool) -> ImageRows:
    """Kept rows and, behind them, the mean of every cluster, which stands where its centre stood."""
    kept = next(parts)
    if not is_merged:
        return ImageRows.kept(kept)
    again, centres, clusters = next(parts), next(parts), next(parts)
    sizes = np.bincount(clusters)
    windows = np.full((len(kept) + len(centres), sizes.max()), -1)
    windows[: len(kept), 0] = kept
    for number, centre in enumerate(centres):
        others = np.flatnonzero(clusters == number)
        windows[len(kept) + number, : sizes[number]] = again[[centre, *others[others != centre]]]
    weights = np.repeat(1 / np.concatenate([np.ones(len(kept)), sizes])[:, None], windows.shape[1], axis=1)
    return ImageRows.merged(windows, torch.from_numpy(weights).float(), plain=len(kept))
