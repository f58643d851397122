"""Weights of sources: so many occurrences an epoch, spread over its passes; names that are none are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Split
from dpn_platform.data.published.row_index import RowIndex
from dpn_platform.data.reading.source_weights import source_weights

PlannedSet = Callable[..., tuple[Split, RowIndex]]


def test_an_epoch_shows_every_row_floor_or_ceil_of_its_weight(planned_set: PlannedSet) -> None:
    split, index = planned_set(400)
    weights = source_weights(split, index, {"coco": 2.5, "gqa": 0.0, "ocr": 0.25})
    draw = np.random.default_rng(1).permutation(400)
    visits = np.array([weights.chosen(visit, draw) for visit in range(weights.passes_per_epoch)])

    assert weights.passes_per_epoch == 3
    times = visits.sum(axis=0)
    for source, (name, low, high) in enumerate((("coco", 2, 3), ("gqa", 0, 0), ("ocr", 0, 1), ("text", 1, 1))):
        mine = times[index.source == source]
        assert (mine.min(), mine.max()) == (low, high), name
        assert mine.mean() == pytest.approx(weights.by_source[source], abs=1 / len(mine))
        assert np.ptp(visits[:, index.source == source].sum(axis=1)) <= 1, name  # each pass has the mixture asked for


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ({"coko": 2.0}, "no source 'coko'; it has: coco, gqa, ocr, text"),
        (dict.fromkeys(("coco", "gqa", "ocr", "text"), 0.0), "every source has weight 0"),
    ],
)
def test_weights_that_fit_no_row_are_refused(planned_set: PlannedSet, weights: dict[str, float], line: str) -> None:
    with pytest.raises(DpnError, match=line):
        source_weights(*planned_set(40), weights)
