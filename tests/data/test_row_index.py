"""The row index: exact where ingest counted, estimated from the text's length where it did not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dpn_platform.data.manifest import Manifest, Split
from dpn_platform.data.row_index import RowIndex, index_of, read_row_index
from dpn_platform.data.shards import Slice
from dpn_platform.data.stream import read_rows


def test_index_is_read_from_published_shards(part: Slice, publish: Callable[..., Manifest]) -> None:
    manifest = publish(part)

    index = read_row_index(manifest, "train")

    [shard] = manifest.split("train").shards
    rows = read_rows(manifest.shard_uri(shard), np.arange(shard.rows)).to_pylist()
    for row in rows:
        place = row["row_id"]
        assert index.has_image[place] == row["has_image"]
        assert index.tokens[place] == row["text_length"] // 4 + 576 * row["has_image"]
        assert index.sources[index.source[place]] == row["source"]
    assert (index.cost == index.tokens).all()
    assert index.tokens[: shard.first_row_id].sum() == 0  # ids that no row has


def test_counts_of_ingest_are_used_where_they_are(planned_set: Callable[..., tuple[Split, RowIndex]]) -> None:
    split, _ = planned_set(4, rows_per_shard=4, text_every=2)
    table = pa.table(
        {
            "source": ["coco", "gqa", "ocr", "text"],
            "text_length": [1000] * 4,
            "has_image": [True, False, True, False],
            "prompt_tokens": pa.array([10, 20, 30, 40], pa.int32()),
            "answer_tokens": pa.array([1, 2, 3, 4], pa.int32()),
            "expected_cost": pa.array([7, 8, 9, 10], pa.int64()),
        }
    )
    index = index_of(split, [table])

    assert index.tokens.tolist() == [587, 22, 609, 44]
    assert index.cost.tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize("positions", [[249, 250, 0], [600, 3, 600], [999], []])
def test_only_the_row_groups_that_are_wanted_are_read(tmp_path: Path, positions: list[int]) -> None:
    """A resumed or thinned read: rows keep their order whichever groups are skipped."""
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row_id": range(1000)}), tmp_path / "shard.parquet", row_group_size=250)

    assert read_rows(str(tmp_path / "shard.parquet"), np.array(positions, np.int32))["row_id"].to_pylist() == positions
