"""Raw to published: a Ray Data job that turns a LLaVA set into validated Parquet shards and a manifest.

Published layout: `manifest.json`, `manifests/`, `shards/`, `quarantine/`, `tokenizers/`, and `ingest/` with what
a restart needs. The caller has initialised Ray.

The driver holds 24 bytes a row of the split it is reading (`spool`), the 8 bytes of its permutation, and the
quarantined rows; the records' text goes through a temporary file into Ray's object store, one slice at a time.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.assembly import Files, Origin, assemble, check_quarantined
from dpn_platform.data.ingest.finished import finish_slice
from dpn_platform.data.ingest.policy import Policy
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import RawSource, folder_source
from dpn_platform.data.ingest.tokenizer_files import tokenizer_json
from dpn_platform.data.ingest.tokens import VISUAL_TOKENS, parse_tokenizer
from dpn_platform.data.published.manifest import FILE_NAME, Manifest, load_manifest, publish_manifest
from dpn_platform.data.reading.ray_context import quiet_data_context
from dpn_platform.storage import create_bytes, exists, join_uri, open_uri, require_bucket

ROWS_PER_SHARD = 1000
MAX_QUARANTINED = 0.05
TASK_CPUS = 1.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        rows_per_shard: source rows per shard.
        policy: what to do about each kind of defect.
        max_quarantined: fraction of the source's rows above which nothing is published.
        visual_tokens: of one image, for the column `expected_cost`.
        tokenizer: folder with a tokenizer.json (or tokenizer.model) to count tokens by; None estimates them.
        fresh: build every shard again, also those that an interrupted run has finished.
    """

    rows_per_shard: int = ROWS_PER_SHARD
    policy: Policy = Policy()
    max_quarantined: float = MAX_QUARANTINED
    visual_tokens: int = VISUAL_TOKENS
    tokenizer: str | None = None
    fresh: bool = False


def ingest(
    source: RawSource | str,
    target_uri: str,
    *,
    name: str | None = None,
    options: IngestOptions | None = None,
    recipe: dict[str, Any] | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Manifest:
    """Ingests a raw data set and publishes it; an interrupted run is continued by running it again.

    Every source row ends in a shard or, with its reason, in the quarantine table. The same source and options
    give the same fingerprint, interrupted or not.

    Args:
        source: a raw set, or a folder that holds one (`sources.folder_source`).
        target_uri, name: folder to publish in; of the data set, by default the folder's.
        options, recipe: see `IngestOptions`; how the source was made, copied into the manifest.
        force: replace another data set that is published there (older versions stay readable).
        on_progress, on_note: called with (rows done, rows in all); with a line for people.

    Raises:
        DpnError: no raw data set, no bucket, too many rows quarantined, another set published there, storage failed.
    """
    options = options or IngestOptions()
    target_uri = open_uri(target_uri).uri  # tasks run in another working folder
    raw = folder_source(source) if isinstance(source, str) else source
    require_bucket(target_uri)
    build = BuildOptions(raw.image_roots, options.policy, options.visual_tokens, _keep_tokenizer(options, target_uri))
    files: Files = {}
    slices = read_slices(raw, target_uri, build, options.rows_per_shard, files)
    blocks = [ray.put(pa.table({"slice": [pickle.dumps(part)]})) for part in slices]
    if not force:
        _refuse_another(target_uri, files)
    total = sum(file.rows for annotations in files.values() for file in annotations)
    results = _collect(_run(blocks, fresh=options.fresh), total, on_progress)
    if on_note and (reused := sum(result["reused"] for result in results)):
        on_note(f"{reused} of {len(results)} shards were finished by an earlier run")
    origin = Origin(name or open_uri(target_uri).path.rpartition("/")[2], raw.name, recipe, files, options.tokenizer)
    manifest = assemble(results, target_uri, origin, build)
    check_quarantined(manifest, results, target_uri, options.max_quarantined)
    return publish_manifest(target_uri, manifest, force=force)


def _refuse_another(target_uri: str, files: Files) -> None:
    """Names another set before the work where the sources' sizes tell it; `publish_manifest` compares what is built."""
    if not exists(join_uri(target_uri, FILE_NAME)):
        return
    published = load_manifest(target_uri)
    there = {name: sum(file.rows for file in split.annotations) for name, split in published.splits.items()}
    here = {name: sum(file.rows for file in annotations) for name, annotations in files.items()}
    if there != here and all(there.values()):
        told = ["; ".join(f"{name} {rows}" for name, rows in sorted(counts.items())) for counts in (there, here)]
        raise DpnError(
            f"{target_uri} holds another data set, made of {told[0]} records; this source has {told[1]}. "
            "Choose another destination or use --force; nothing was built"
        )


def _keep_tokenizer(options: IngestOptions, target_uri: str) -> str | None:
    """Copies the tokenizer into the data set, where the workers of all nodes find it; its path there.

    Raises:
        DpnError: the folder holds no readable tokenizer.
    """
    if options.tokenizer is None:
        return None
    data = tokenizer_json(options.tokenizer)
    parse_tokenizer(data, options.tokenizer)
    path = f"tokenizers/{hashlib.sha256(data).hexdigest()[:16]}.json"
    create_bytes(join_uri(target_uri, path), data)
    return path


def _collect(results: Iterator[dict[str, Any]], total: int, on_progress: Progress | None) -> list[dict[str, Any]]:
    collected, done = [], 0
    for result in results:
        collected.append(result)
        done += result["num_rows"]
        if on_progress:
            on_progress(done, total)
    if done != total:
        raise RuntimeError(f"{total} source rows, but only {done} came back from the tasks")
    return collected


def _run(blocks: list[ray.ObjectRef], *, fresh: bool) -> Iterator[dict[str, Any]]:
    """One Ray task per slice; results in order of completion."""
    with quiet_data_context(preserve_order=False):
        results = ray.data.from_arrow_refs(blocks).map_batches(
            _finish_batch, fn_kwargs={"fresh": fresh}, batch_size=1, batch_format="pyarrow", num_cpus=TASK_CPUS
        )
    for row in results.iter_rows():
        result: dict[str, Any] = pickle.loads(row["result"])
        if "error" in result:
            raise DpnError(result["error"])
        yield result


def _finish_batch(batch: pa.Table, *, fresh: bool) -> dict[str, list[bytes]]:
    """A storage error travels as a value: raised in a task, it would reach the driver as an opaque Ray error."""
    results: list[dict[str, Any]] = []
    for part in batch.column("slice"):
        try:
            results.append(finish_slice(pickle.loads(part.as_py()), fresh=fresh))
        except DpnError as error:
            results.append({"error": str(error)})
    return {"result": list(map(pickle.dumps, results))}
