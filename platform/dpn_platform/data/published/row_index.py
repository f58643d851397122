"""What planning needs to know of every row, as a few arrays by row id; no picture is read for it.

Only the small columns of the shards are read (ranged reads of the Parquet files). 7 bytes per row: 5 MB for the 665K
mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest, Split
from dpn_platform.storage import open_uri, with_retries

READ_THREADS = 8

_FACTS = ("source", "has_image", "expected_cost")


@dataclass(frozen=True)
class RowIndex:
    """Facts by row id; ids that no row has hold zeros.

    Attributes:
        has_image: bool[span].
        tokens: int32[span], what a dense decoder sees of the row, pictures included: its expected cost.
        source: int16[span], place in `sources`.
        sources: their names.
    """

    has_image: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int32]
    source: npt.NDArray[np.int16]
    sources: tuple[str, ...]


def read_row_index(manifest: Manifest, split_name: str) -> RowIndex:
    """Reads the facts of every row of a split.

    Raises:
        DpnError: no such split, or a shard cannot be read.
    """
    return index_of(manifest.split(split_name), read_split_columns(manifest, split_name, _FACTS))


def read_split_columns(manifest: Manifest, split_name: str, columns: Sequence[str]) -> list[pa.Table]:
    """Columns of all shards, in the order of the manifest.

    Raises:
        DpnError: no such split, or a shard cannot be read.
    """
    shards = manifest.split(split_name).shards
    with ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(lambda shard: read_columns(manifest.shard_uri(shard), columns), shards))


def index_of(split: Split, tables: Sequence[pa.Table]) -> RowIndex:
    """The index of a split from the small columns of its shards, in the order of the manifest."""
    span, names = split.row_id_span, tuple(sorted(split.sources))
    index = RowIndex(np.zeros(span, bool), np.zeros(span, np.int32), np.zeros(span, np.int16), names)
    for shard, table in zip(split.shards, tables, strict=True):
        ids = slice(shard.first_row_id, shard.first_row_id + shard.rows)
        index.has_image[ids] = table["has_image"].to_numpy()
        index.tokens[ids] = table["expected_cost"].to_numpy()
        index.source[ids] = pc.index_in(table["source"], pa.array(index.sources)).to_numpy()
    return index


def read_columns(uri: str, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Columns of a shard, and of the `optional` ones those that it has; the others are not fetched.

    Raises:
        DpnError: the shard is missing, damaged or cannot be read.
    """
    location = open_uri(uri)

    def read() -> pa.Table:
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            return file.read([*columns, *(name for name in optional if name in file.schema_arrow.names)])

    try:
        return with_retries("read", location, read)
    except DpnError as error:
        raise DpnError(f"{error}; see `dpn data verify`") from error
