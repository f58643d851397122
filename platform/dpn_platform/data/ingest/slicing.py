"""A raw set as slices: the records of every split, spread over the shards to be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.assembly import Files
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow
from dpn_platform.data.ingest.sources import RawSource
from dpn_platform.data.ingest.splitting import split_records
from dpn_platform.data.ingest.spool import RecordSpool
from dpn_platform.data.published.manifest import Annotations
from dpn_platform.data.reading.order import permutation


def read_slices(
    raw: RawSource, target_uri: str, build: BuildOptions, rows_per_shard: int, files: Files
) -> Iterator[Slice]:
    """The slices of all splits, one at a time; a pure function of the annotation files.

    Args:
        raw: what to read.
        target_uri: where the shards go.
        build: how to build them.
        rows_per_shard: rows of a slice; the last one of a split may have fewer.
        files: filled with the annotation files of every split and their numbers of records.

    Raises:
        DpnError: a file is empty, unreadable or no list of records.
    """
    for split in raw.splits:
        read: list[Annotations] = []
        with RecordSpool(_records(raw, split, read)) as spool:
            if not len(spool):
                raise DpnError(f"{', '.join(raw.files(split))}: expected a non-empty list of records")
            # Spread by a fixed permutation, every shard is a fair sample of the split: sources are often sorted by
            # task, and shuffling within shards would mix like with like.
            duplicates, order = spool.duplicates(), permutation(len(spool), "ingest", split)
            for index, first in enumerate(range(0, len(spool), rows_per_shard)):
                positions = np.sort(order[first : first + rows_per_shard]).tolist()
                rows = tuple(SourceRow(place, spool[place], bool(duplicates[place])) for place in positions)
                yield Slice(target_uri, split, index, first_row_id=first, rows=rows, options=build)
        files[split] = tuple(read)


def _records(raw: RawSource, split: str, read: list[Annotations]) -> Iterator[bytes]:
    """A split's records, file after file; notes in `read` how many of them each file held."""
    for uri in raw.files(split):
        rows = 0
        for record in split_records(raw, split, uri):
            rows += 1
            yield record
        read.append(Annotations(uri=uri, rows=rows))
