"""Source weights: how often the rows of a source occur in one epoch, spread evenly over passes through the shards.

An epoch of weighted sources is R passes over all shards, R the largest weight rounded up; in each pass a row occurs
at most once, so that (pass, row) names an occurrence and stays unique. A source of weight w shows w/R of its rows in
every pass: each stretch of an epoch has the mixture asked for, and the repeats of a row lie a pass apart. Over one
epoch every row of the source is seen floor(w) or ceil(w) times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Split
from dpn_platform.data.published.row_index import RowIndex


@dataclass(frozen=True)
class SourceWeights:
    """Occurrences per row and epoch of every source.

    Args:
        by_source: weight of each source of the index, in its order.
        index: says which source a row is of.
    """

    by_source: tuple[float, ...]
    index: RowIndex

    @property
    def passes_per_epoch(self) -> int:
        """R: how often the shards are read in one epoch."""
        return max(1, math.ceil(max(self.by_source)))

    def chosen(self, pass_number: int, draw: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows occur in a pass.

        Args:
            pass_number: counted over the run; R of them make an epoch.
            draw: int64[span], a permutation that belongs to the epoch. Its ranks within each source decide which
                rows get the occurrences that a fractional weight leaves over.

        Returns:
            bool[span].
        """
        passes = self.passes_per_epoch
        visit = pass_number % passes
        result = np.zeros(len(draw), bool)
        source_in_draw = self.index.source[draw]
        for source, weight in enumerate(self.by_source):
            rows = draw[source_in_draw == source]
            rows = rows[self.index.tokens[rows] > 0]  # ids that no row has
            phase = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
            per_visit = weight / passes
            result[rows] = np.floor(per_visit * (visit + 1) + phase) > np.floor(per_visit * visit + phase)
        return result


def source_weights(split: Split, index: RowIndex, weights: Mapping[str, float]) -> SourceWeights:
    """Weights of all sources of a split; sources that are not named have weight 1.

    Raises:
        DpnError: a named source is not in the split, or nothing is left.
    """
    unknown = sorted(set(weights) - set(index.sources))
    if unknown:
        raise DpnError(
            f"data.source_weights: the split has no source '{unknown[0]}'; it has: {', '.join(index.sources)}"
        )
    by_source = tuple(float(weights.get(name, 1.0)) for name in index.sources)
    if not any(weight > 0 and split.sources[name] for name, weight in zip(index.sources, by_source, strict=True)):
        raise DpnError("data.source_weights leaves no row: every source has weight 0")
    return SourceWeights(by_source, index)
