"""Raw to published: a Ray Data job that turns a LLaVA folder into validated Parquet shards and a manifest.

Raw layout: `{source}/{split}.json` (a list of records) and pictures in sub-folders, as LLaVA ships it.
Published layout: `manifest.json`, `manifests/`, `shards/`, `quarantine/`. The caller has initialised Ray.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from dpn_platform.config.errors import DpnError
from dpn_platform.data.manifest import (
    Manifest,
    Quarantine,
    Shard,
    Split,
    fingerprint_of,
    publish_manifest,
    sum_counts,
)
from dpn_platform.data.order import permutation
from dpn_platform.data.ray_context import quiet_data_context
from dpn_platform.data.schema import SCHEMA_VERSION
from dpn_platform.data.shards import Slice, SourceRow, build_shard, quarantine_lines
from dpn_platform.data.validation import find_duplicates
from dpn_platform.storage import join_uri, list_files, open_uri, read_json, require_bucket, write_bytes

ROWS_PER_SHARD = 1000
TASK_CPUS = 1.0

Progress = Callable[[int, int], None]


def ingest(
    source_uri: str,
    target_uri: str,
    *,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    recipe: dict[str, Any] | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Manifest:
    """Ingests a raw data set and publishes it.

    Every source row ends in a shard or, with its reason, in the quarantine table. The same source gives the
    same fingerprint.

    Args:
        source_uri: folder of `{split}.json` files and pictures.
        target_uri: folder to publish in.
        name: of the data set; default: the last part of `target_uri`.
        splits: which `{split}.json` to take; default: all there are.
        rows_per_shard: source rows per shard.
        recipe: how the source was made, copied into the manifest.
        force: replace another data set that is published there (older versions stay readable).
        on_progress: called with (rows done, rows in all).

    Raises:
        DpnError: the source is not a raw data set, no such bucket, another data set is published there, or
            storage failed.
    """
    require_bucket(target_uri)
    sources = _read_sources(source_uri, splits)
    total = sum(len(records) for records in sources.values())
    slices = [
        part
        for split, records in sorted(sources.items())
        for part in _slices(source_uri, target_uri, split, records, rows_per_shard)
    ]
    results, done = [], 0
    for result in _run(slices):
        results.append(result)
        done += result["num_rows"]
        if on_progress:
            on_progress(done, total)
    if done != total:
        raise RuntimeError(f"{total} source rows, but only {done} came back from the tasks")
    manifest = _assemble(results, source_uri, target_uri, sorted(sources), name, recipe)
    return publish_manifest(target_uri, manifest, force=force)


def _read_sources(source_uri: str, splits: Sequence[str] | None) -> dict[str, list[Any]]:
    if splits is None:
        found = list_files(source_uri, ".json", recursive=False)
        splits = [uri.rpartition("/")[2].removesuffix(".json") for uri in found]
    if not splits:
        raise DpnError(f"{source_uri}: no raw data set there; expected train.json (a list of records) and pictures")
    sources = {split: read_json(join_uri(source_uri, f"{split}.json")) for split in splits}
    for split, records in sources.items():
        if not isinstance(records, list) or not records:
            raise DpnError(f"{join_uri(source_uri, split)}.json: expected a non-empty list of records")
    return sources


def _slices(
    source_uri: str, target_uri: str, split: str, records: Sequence[Any], rows_per_shard: int
) -> Iterator[Slice]:
    """Spreads the rows over the shards by a fixed permutation, so that every shard is a fair sample of the split.

    Sources are often sorted by task; without this, shuffling within shards would mix like with like.
    """
    duplicates = find_duplicates(records)
    order = permutation(len(records), "ingest", split)
    for index, first in enumerate(range(0, len(records), rows_per_shard)):
        positions = np.sort(order[first : first + rows_per_shard]).tolist()
        rows = tuple(SourceRow(position, records[position], position in duplicates) for position in positions)
        yield Slice(source_uri, target_uri, split, index, first_row_id=first, rows=rows)


def _run(slices: Sequence[Slice]) -> Iterator[dict[str, Any]]:
    """One Ray task per slice; results in order of completion."""
    with quiet_data_context(preserve_order=False):
        work = ray.data.from_items([{"slice": pickle.dumps(part)} for part in slices], override_num_blocks=len(slices))
        results = work.map_batches(_build_batch, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS)
    for row in results.iter_rows():
        result: dict[str, Any] = pickle.loads(row["result"])
        if "error" in result:
            raise DpnError(result["error"])
        yield result


def _build_batch(batch: pa.Table) -> dict[str, list[bytes]]:
    return {"result": [pickle.dumps(_build(pickle.loads(part.as_py()))) for part in batch.column("slice")]}


def _build(part: Slice) -> dict[str, Any]:
    """A storage error travels as a value: raised in a task, it would reach the driver as an opaque Ray error."""
    try:
        return build_shard(part)
    except DpnError as error:
        return {"error": str(error)}


def _assemble(
    results: Sequence[dict[str, Any]],
    source_uri: str,
    target_uri: str,
    split_names: Sequence[str],
    name: str | None,
    recipe: dict[str, Any] | None,
) -> Manifest:
    ordered = sorted(results, key=lambda result: (result["split"], result["index"]))
    splits = {split: _split([result for result in ordered if result["split"] == split]) for split in split_names}
    rejected = [row for result in ordered for row in result["rejected"]]
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name or open_uri(target_uri).path.rpartition("/")[2],
        source=open_uri(source_uri).uri,
        recipe=recipe,
        splits=splits,
        quarantine=_quarantine(target_uri, rejected),
        fingerprint=fingerprint_of(splits),
    )


def _split(results: Sequence[dict[str, Any]]) -> Split:
    shards = tuple(Shard(**result["shard"]) for result in results if result["shard"])
    rows = sum(shard.rows for shard in shards)
    images = sum(result["images"] for result in results)
    return Split(
        rows=rows,
        images=images,
        text_only=rows - images,
        sources=sum_counts(result["sources"] for result in results),
        shards=shards,
    )


def _quarantine(target_uri: str, rejected: Sequence[dict[str, Any]]) -> Quarantine:
    if not rejected:
        return Quarantine()
    data = quarantine_lines(rejected)
    path = f"quarantine/{hashlib.sha256(data).hexdigest()[:16]}.jsonl"
    write_bytes(join_uri(target_uri, path), data)
    return Quarantine(rows=len(rejected), reasons=sum_counts({row["reason"]: 1} for row in rejected), path=path)
