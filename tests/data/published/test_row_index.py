"""The row index: what ingest counted, by row id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dpn_platform.data.ingest.shards import Slice
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.reading.stream import read_rows


def test_index_is_read_from_published_shards(part: Slice, publish: Callable[..., Manifest]) -> None:
    manifest = publish(part)

    index = read_row_index(manifest, "train")

    [shard] = manifest.split("train").shards
    rows = read_rows(manifest.shard_uri(shard), np.arange(shard.rows)).to_pylist()
    for row in rows:
        place = row["row_id"]
        assert index.has_image[place] == row["has_image"]
        assert (
            index.tokens[place]
            == row["expected_cost"]
            == row["prompt_tokens"] + row["answer_tokens"] + (576 * row["has_image"])
        )
        assert index.sources[index.source[place]] == row["source"]
    assert index.tokens[: shard.first_row_id].sum() == 0  # ids that no row has


@pytest.mark.parametrize("positions", [[249, 250, 0], [600, 3, 600], [999], []])
def test_only_the_row_groups_that_are_wanted_are_read(tmp_path: Path, positions: list[int]) -> None:
    """A resumed or thinned read: rows keep their order whichever groups are skipped."""
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row_id": range(1000)}), tmp_path / "shard.parquet", row_group_size=250)

    assert read_rows(str(tmp_path / "shard.parquet"), np.array(positions, np.int32))["row_id"].to_pylist() == positions
