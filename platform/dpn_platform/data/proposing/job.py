"""A published set to the same set with proposals: a Ray Data job over its shards. The caller has initialised Ray.

The set that is read stays as it is: what comes of it is a new version beside it, or a set in another folder. Ids,
pictures and conversations are the same; only `objects` has proposals, and rows cost the tokens of more boxes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy

from dpn_model.proposals.opening import SourceSpec
from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.picture_names import names_pictures, pictures_of_records
from dpn_platform.data.proposing.places import Place, fetched
from dpn_platform.data.proposing.shards import Portion, finished
from dpn_platform.data.proposing.tally import Tally
from dpn_platform.data.proposing.worker import NETWORKS, ShardProposer, WorkerSettings
from dpn_platform.data.published.manifest import (
    VERSIONS_FOLDER,
    Manifest,
    Shard,
    Split,
    fingerprint_of,
    publish_manifest,
)
from dpn_platform.data.reading.ray_context import quiet_data_context
from dpn_platform.storage import create_bytes, join_uri, open_uri, read_bytes, require_bucket, together

#: copies of a network on one cluster without GPUs
MOST_CPU_NETWORKS = 4

Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ProposeOptions:
    """How to propose.

    Attributes:
        threshold, nms, granularity: see `SourceSpec`.
        actors: copies of the source at work, at most; None: one for each GPU, or as many as the CPUs run.
        fresh: propose for every shard again, also for those that an interrupted job has finished.
    """

    threshold: float | None = None
    nms: float = 0.8
    granularity: str = "fine"
    actors: int | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Proposing:
    """What a job came to.

    Attributes:
        manifest: of the set with proposals, published.
        before: address of the version that was read.
        tallies: by split.
    """

    manifest: Manifest
    before: str
    tallies: Mapping[str, Tally]


def propose(
    manifest: Manifest,
    place: Place,
    target_uri: str | None = None,
    *,
    options: ProposeOptions | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Proposing:
    """Proposes boxes for every row with one picture and publishes the result; an interrupted job goes on.

    Args:
        manifest: of the set that is read.
        place: of the source.
        target_uri: folder to publish in; None: the set's own, where the result becomes the current version and older
            ones stay readable.
        options: see `ProposeOptions`.
        force: replace another data set that is published at `target_uri`.
        on_progress: called with (rows done, rows in all).
        on_note: called with a line for people.

    Raises:
        DpnError: limits that are none, no bucket, a source that cannot be opened or refuses, a damaged shard, a file
            that names none of the rows, another set published there, storage failed.
    """
    options = options or ProposeOptions()
    spec = _spec(place, options)
    target = open_uri(target_uri or manifest.root).uri
    require_bucket(target)
    portions = _portions(manifest, target, spec, place)
    done = [None] * len(portions) if options.fresh else together(finished, portions)
    results = [result for result in done if result is not None]
    if results and on_note:
        on_note(f"{len(results)} of {len(portions)} shards were finished by an earlier run")
    left = [portion for portion, result in zip(portions, done, strict=True) if result is None]
    images = _pictures(manifest, place) if left else None
    total, rows = sum(portion.shard.rows for portion in portions), sum(result["shard"]["rows"] for result in results)
    for result in _run(left, spec, images, options.actors):
        results.append(result)
        rows += result["shard"]["rows"]
        if on_progress:
            on_progress(rows, total)
    tallies = {name: _tally(results, name) for name in manifest.splits}
    if place.kind == "files":
        _refuse_another_sets_file(place, tallies)
    published = _publish(manifest, results, target, _provenance(manifest, spec), force or target == manifest.root)
    return Proposing(published, join_uri(manifest.root, VERSIONS_FOLDER, f"{manifest.fingerprint}.json"), tallies)


def _spec(place: Place, options: ProposeOptions) -> SourceSpec:
    granularity: Any = options.granularity
    spec = SourceSpec(place.kind, place.uri, options.threshold, options.nms, granularity)
    try:
        _ = spec.limits
    except ValueError as error:
        raise DpnError(str(error)) from error
    return spec


def _portions(manifest: Manifest, target: str, spec: SourceSpec, place: Place) -> list[Portion]:
    decides = {**asdict(spec), **asdict(spec.limits), "digest": place.digest}
    return [
        Portion(manifest.shard_uri(shard), shard, name, index, target, decides)
        for name, split in sorted(manifest.splits.items())
        for index, shard in enumerate(split.shards)
    ]


def _pictures(manifest: Manifest, place: Place) -> ray.ObjectRef | None:
    """A mapping from record ids to pictures, where a file asks for it."""
    if place.kind != "files":
        return None
    with fetched(place.uri) as file:
        return ray.put(pictures_of_records(manifest)) if names_pictures(file) else None


def _run(
    portions: Sequence[Portion], spec: SourceSpec, images: ray.ObjectRef | None, wanted: int | None
) -> Iterator[dict[str, Any]]:
    """One actor for each copy of the source; results in order of completion."""
    if not portions:
        return
    actors, use_gpu = _actors(spec, len(portions), wanted)
    settings = WorkerSettings(SourceSpec(**{**asdict(spec), "device": "cuda" if use_gpu else "cpu"}), images)
    items = [{"portion": pickle.dumps(portion)} for portion in portions]
    with quiet_data_context(preserve_order=False):
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ShardProposer,
            fn_constructor_args=(settings,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
        )
        for row in dataset.iter_rows():
            result: dict[str, Any] = pickle.loads(row["result"])
            if "error" in result:
                raise DpnError(result["error"])
            yield result


def _actors(spec: SourceSpec, portions: int, wanted: int | None) -> tuple[int, bool]:
    """(how many, whether each has a GPU)."""
    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), max(1, int(found.get("CPU", 1)))
    runs_network = spec.kind in NETWORKS
    most = gpus if runs_network and gpus else min(cpus, MOST_CPU_NETWORKS) if runs_network else cpus
    return min(most, portions, wanted or most), runs_network and gpus > 0


def _tally(results: Results, split: str) -> Tally:
    return Tally.together(Tally.of_json(result["tally"]) for result in results if result["split"] == split)


def _refuse_another_sets_file(place: Place, tallies: Mapping[str, Tally]) -> None:
    facts = Tally.together(tallies.values()).facts()
    if facts["rows"] and facts["rows_without"] == facts["rows"]:
        raise DpnError(
            f"{place.uri} has no proposals for any of the {facts['rows']} rows with a picture; its lines name the "
            "rows' ids, or their pictures as the annotation files do. Nothing was published"
        )


def _provenance(manifest: Manifest, spec: SourceSpec) -> dict[str, Any]:
    """What the new manifest says of its proposals."""
    told = {"kind": spec.kind, "place": spec.place, **asdict(spec.limits), "added_to": manifest.fingerprint}
    return {**told, "granularity": spec.granularity} if spec.kind == "upn" else told


def _publish(manifest: Manifest, results: Results, target: str, provenance: dict[str, Any], force: bool) -> Manifest:
    splits = {name: _split(split, name, results) for name, split in manifest.splits.items()}
    if target != manifest.root:
        for path in filter(None, (manifest.quarantine.path, manifest.tokens.tokenizer)):
            create_bytes(join_uri(target, path), read_bytes(join_uri(manifest.root, path)))
    fields = {"splits": splits, "fingerprint": fingerprint_of(splits), "proposals": provenance}
    return publish_manifest(target, manifest.model_copy(update=fields), force=force)


def _split(split: Split, name: str, results: Results) -> Split:
    mine = sorted((result for result in results if result["split"] == name), key=lambda result: result["index"])
    counts = {count: sum(result[count] for result in mine) for count in ("objects", "expected_cost")}
    return split.model_copy(update={**counts, "shards": tuple(Shard(**result["shard"]) for result in mine)})
