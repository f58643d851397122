"""Packed batches made by hand, probes that show what they are told, and a cache against a whole pass.

Shape letters: T packed rows, N heads, Q rows that ask, n rows of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cache_stages import CacheStage
from dpn_model.layers import rows_per_sample
from dpn_model.methods.probe import Probe
from dpn_model.packing import ImageSpan, PackedSequence, TokenKind, contiguous_positions


def state_of(*samples: tuple[int, int, int]) -> PackedSequence:
    """Samples of text in front of a picture, its visual tokens (one row of a grid), and text behind it."""
    lengths = tuple(sum(sample) for sample in samples)
    starts = np.cumsum((0, *lengths))
    images, kinds = [], []
    for number, (before, visual, behind) in enumerate(samples):
        if visual:
            images.append(ImageSpan(number, int(starts[number]) + before, 1, visual))
        kinds += [TokenKind.TEXT] * before + [TokenKind.VISION] * visual + [TokenKind.TEXT] * behind
    total = int(starts[-1])
    return PackedSequence(
        hidden_TD=torch.arange(total, dtype=torch.float32)[:, None].expand(total, 4).contiguous(),
        kind_T=torch.tensor(kinds, dtype=torch.int8),
        token_index_T=torch.arange(total),
        position_ids_T=torch.from_numpy(contiguous_positions(lengths)),
        lengths=lengths,
        images=tuple(images),
        router_rows_R=np.empty(0, np.int64),
        asking_rows_R=starts[1:] - 1,
    )


def shown(state: PackedSequence, scores: Sequence[Sequence[float]] | Tensor) -> list[Tensor]:
    """float[N, 1, n] of every sample: what heads (or one) look at in its picture; nothing elsewhere."""
    found = [torch.zeros(1, 1, length) for length in state.lengths]
    for image, score in zip(state.images, scores, strict=True):
        heads_NV = torch.as_tensor(score, dtype=torch.float32).reshape(-1, image.num_tokens)
        weights = torch.zeros(len(heads_NV), 1, state.lengths[image.sample])
        start = image.start - state.starts[image.sample]
        weights[:, 0, start : start + image.num_tokens] = heads_NV
        found[image.sample] = weights
    return found


class Shown(Probe):
    """Shows the same attention in the finished layer and in the next."""

    def __init__(
        self, state: PackedSequence, scores: Sequence[Sequence[float]] | Tensor, entered: PackedSequence | None = None
    ) -> None:
        super().__init__(1, state, None, None, entered=() if entered is None else entered.images)
        self.shown = shown(state, scores)

    def attention(self, rows: np.ndarray | None = None) -> list[Tensor]:
        """Every row that asks looks alike."""
        rows = self.state.asking_rows_R if rows is None else rows
        asking = rows_per_sample(rows, self.state.lengths)
        return [one.expand(-1, count, -1) for one, count in zip(self.shown, asking, strict=True)]

    def next_attention(self, rows: np.ndarray | None = None) -> list[Tensor]:
        return self.attention(rows)


def kept_rows(before: PackedSequence, after: PackedSequence, sample: int = 0) -> list[int]:
    """Rows of a sample that are left, counted from its first row."""
    start, end = after.starts[sample], after.starts[sample] + after.lengths[sample]
    return (after.token_index_T[start:end] - before.starts[sample]).tolist()


def stage_of(state: PackedSequence) -> CacheStage:
    """What the layers behind `state` would hold in a cache."""
    cache = PackedCache()
    cache.open_stage(state)
    row = torch.zeros(1, 1, sum(state.lengths), 2)
    cache.update(row, row, 0)
    return cache.stage(0)


def next_positions(state: PackedSequence) -> list[int]:
    """Rotary position of the token behind every sample in the layers behind `state`."""
    stage = stage_of(state)
    return (stage.position_offset_B + torch.tensor(stage.lengths)).tolist()


def alone(batch: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    """One sample of a padded batch with one picture each."""
    kept = batch["attention_mask"][sample].bool()
    return {"input_ids": batch["input_ids"][sample, kept][None], "pixel_values": batch["pixel_values"][sample][None]}


@torch.no_grad()
def prefilled(model: DpnForConditionalGeneration, batch: dict[str, Tensor]) -> PackedCache:
    """The cache behind a batch of prompts."""
    cache = PackedCache()
    model(**batch, **{CACHE_NAME: cache})
    return cache


@torch.no_grad()
def cached_and_whole(model: DpnForConditionalGeneration, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits of three tokens behind the cache of one prompt, and of prompt and tokens run at once.

    Both under the scores of the prompt, since the longer text would rank anew.
    """
    told: dict[int, list[Tensor]] = {}
    rankers = {layer: one for layer, one in model.parts.reducers.items() if hasattr(one, "scores")}
    for layer, reducer in rankers.items():

        def record(state: PackedSequence, probe: Probe, layer: int = layer, scores=reducer.scores) -> list[Tensor]:
            told[layer] = scores(state, probe)
            return told[layer]

        reducer.scores = record
    cache = prefilled(model, batch)
    more = torch.tensor([[9, 10, 11]])
    step = model(input_ids=more, **{CACHE_NAME: cache}, logits_to_keep=3).logits
    for layer, reducer in rankers.items():
        reducer.scores = lambda state, probe, layer=layer: told[layer]
    ids = torch.cat([batch["input_ids"], more], dim=1)
    whole = model(input_ids=ids, pixel_values=batch["pixel_values"], logits_to_keep=3).logits
    return step, whole
