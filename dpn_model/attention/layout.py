"""Which packed rows attend to which: causal within each sample, in the forms the attention backends take.

Shape letters: B samples, T packed tokens, b samples of a bucket, n its longest sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from dpn_model.attention.riders import Riders
from dpn_model.attention.watch import Watch

# A bucket may waste this share of its rows on padding before a new one is opened: one larger SDPA call beats two
# small ones until about a sixth of it is waste (CPU, 16-64 samples).
MAX_PADDING_SHARE = 0.15


@dataclass(frozen=True)
class Bucket:
    """Samples attended in one call: `rows` int64[b * n], the packed row behind every padded slot."""

    rows: Tensor
    num_samples: int


class AttentionLayout:
    """A packed batch of samples of `lengths` rows. Index tensors are made once, for all layers that share them.

    `watch`: keep queries and keys of one of these layers. `riders`: rows that come behind these. `key_bias_T`: as in
    `PackedSequence`; not with riders.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device,
        watch: Watch | None = None,
        riders: Riders | None = None,
        key_bias_T: Tensor | None = None,
    ) -> None:
        self.lengths = tuple(lengths)
        self.device = device
        self.watch = watch
        self.riders = riders
        self.key_bias_T = key_bias_T

    @property
    def is_uniform(self) -> bool:
        """All samples are equally long, so the packed rows already are a (B, n) rectangle."""
        return len(set(self.lengths)) == 1

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """int32[B + 1], cumulative lengths (FlashAttention's convention)."""
        return torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32, device=self.device)

    @cached_property
    def buckets(self) -> tuple[tuple[Bucket, ...], Tensor]:
        """Samples of similar length together, and int64[T]: where in the joined outputs each packed row is found."""
        return self._pad(_group_by_length(np.asarray(self.lengths)))

    @cached_property
    def rectangle(self) -> tuple[Tensor | None, Tensor | None]:
        """Row behind every slot of one (B, n) rectangle in sample order, and its inverse; None, None if uniform."""
        if self.is_uniform:
            return None, None
        buckets, inverse = self._pad([np.arange(len(self.lengths))])
        return buckets[0].rows, inverse

    def _pad(self, groups: Sequence[np.ndarray]) -> tuple[tuple[Bucket, ...], Tensor]:
        lengths = np.asarray(self.lengths)
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        inverse = np.empty(int(lengths.sum()), dtype=np.int64)
        buckets, offset = [], 0
        for members in groups:
            longest = int(lengths[members].max())
            # Padding slots repeat the sample's last row: finite values that nothing reads.
            rows = starts[members, None] + np.minimum(np.arange(longest)[None, :], lengths[members, None] - 1)
            buckets.append(Bucket(torch.from_numpy(rows.reshape(-1)).to(self.device), len(members)))
            for place, sample in enumerate(members):
                first = offset + place * longest
                inverse[starts[sample] : starts[sample] + lengths[sample]] = np.arange(first, first + lengths[sample])
            offset += len(members) * longest
        return tuple(buckets), torch.from_numpy(inverse).to(self.device)


def _group_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(-lengths, kind="stable")
    groups: list[np.ndarray] = []
    first = 0
    for last in range(1, len(order) + 1):
        members = order[first : last + 1]
        is_wasteful = last < len(order) and (
            1 - lengths[members].sum() / (len(members) * lengths[members[0]]) > MAX_PADDING_SHARE
        )
        if is_wasteful or last == len(order):
            groups.append(order[first:last])
            first = last
    return groups
