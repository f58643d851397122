"""What planning needs to know of every row, as a few arrays by row id; no picture is read for it.

Only the small columns of the shards are read (ranged reads of the Parquet files). About 15 bytes per row:
10 MB for the 665K mix.
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

from dpn_platform.data.manifest import Manifest, Shard, Split
from dpn_platform.storage import open_uri, with_retries

READ_THREADS = 8
#: where ingest has not counted: English text has about four characters per token
CHARACTERS_PER_TOKEN = 4
#: of LLaVA-1.5; only the proportions between rows matter for balance
VISUAL_TOKENS = 576

_COUNTED = ("prompt_tokens", "answer_tokens", "expected_cost")
_ALWAYS = ("source", "text_length", "has_image")


@dataclass(frozen=True)
class RowIndex:
    """Facts by row id; ids that no row has hold zeros.

    Attributes:
        has_image: bool[span].
        tokens: int32[span], tokens in the decoder before any reduction, 576 for a picture.
        cost: int64[span], expected cost in any unit.
        source: int16[span], place in `sources`.
        sources: their names.
    """

    has_image: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int32]
    cost: npt.NDArray[np.int64]
    source: npt.NDArray[np.int16]
    sources: tuple[str, ...]


def read_row_index(manifest: Manifest, split_name: str) -> RowIndex:
    """Reads the facts of every row of a split.

    Raises:
        DpnError: no such split, or a shard cannot be read.
    """
    split = manifest.split(split_name)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        tables = list(pool.map(lambda shard: _read_facts(manifest.shard_uri(shard)), split.shards))
    return index_of(split, tables)


def index_of(split: Split, tables: Sequence[pa.Table]) -> RowIndex:
    """The index of a split from the small columns of its shards, in the order of the manifest."""
    span, names = split.row_id_span, tuple(sorted(split.sources))
    index = RowIndex(
        np.zeros(span, bool), np.zeros(span, np.int32), np.zeros(span, np.int64), np.zeros(span, np.int16), names
    )
    for shard, table in zip(split.shards, tables, strict=True):
        _fill(index, shard, table)
    return index


def _read_facts(uri: str) -> pa.Table:
    location = open_uri(uri)

    def read() -> pa.Table:
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            present = set(file.schema_arrow.names)
            return file.read([*_ALWAYS, *(name for name in _COUNTED if name in present)])

    return with_retries("read", location, read)


def _fill(index: RowIndex, shard: Shard, table: pa.Table) -> None:
    ids = slice(shard.first_row_id, shard.first_row_id + shard.rows)
    has_image = table["has_image"].to_numpy()
    if "prompt_tokens" in table.column_names:
        text = table["prompt_tokens"].to_numpy() + table["answer_tokens"].to_numpy()
    else:
        text = table["text_length"].to_numpy() // CHARACTERS_PER_TOKEN
    tokens = np.maximum(text, 1) + VISUAL_TOKENS * has_image
    index.has_image[ids] = has_image
    index.tokens[ids] = tokens
    index.cost[ids] = table["expected_cost"].to_numpy() if "expected_cost" in table.column_names else tokens
    index.source[ids] = pc.index_in(table["source"], pa.array(index.sources)).to_numpy()
