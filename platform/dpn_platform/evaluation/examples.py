"""Samples for a report's gallery: some of every family, routes mixed, with their pictures read back from the shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpn_platform.data.published.manifest import Manifest, Split
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.evaluation.recorded_runs import gallery_entry
from dpn_platform.evaluation.scoring import Row, by_family

PER_FAMILY = 3


def choose_examples(rows: Sequence[Row], per_family: int = PER_FAMILY) -> list[Row]:
    """Up to `per_family` samples of each family: one of every route first, right answers before wrong ones.

    A pure function of the predictions: the same evaluation shows the same samples.
    """
    chosen: list[Row] = []
    for _, members in sorted(by_family(rows).items()):
        routes: dict[str, int] = {}
        turns = []
        for row in sorted(members, key=lambda row: (not row["correct"], row["row_id"])):
            routes[row["route"]] = routes.get(row["route"], 0) + 1
            turns.append((routes[row["route"]], row["row_id"], row))
        chosen += [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])[:per_family]]
    return chosen


def with_pictures(rows: Sequence[Row], manifest: Manifest, split: Split) -> tuple[dict[str, Any], ...]:
    """The rows as gallery entries."""
    pictures = read_pictures([row["row_id"] for row in rows if row["has_image"]], manifest, split)
    return tuple(gallery_entry(row, pictures.get(row["row_id"])) for row in rows)


def read_pictures(wanted: Sequence[int], manifest: Manifest, split: Split) -> dict[int, bytes]:
    """Row id -> encoded picture; each shard that holds one of them is read once."""
    pictures: dict[int, bytes] = {}
    for shard in split.shards:
        ids = [row_id for row_id in wanted if shard.first_row_id <= row_id < shard.first_row_id + shard.rows]
        if ids:
            table = read_rows(manifest.shard_uri(shard), np.asarray(ids, dtype=np.int64) - shard.first_row_id)
            pictures.update(zip(ids, table.column("image").to_pylist(), strict=True))
    return pictures
