"""Which samples are shown with their routes: the same ones of every run, and one picture under two questions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpn_platform.benchmarks.outcomes import Row, is_right
from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.evaluation.recorded_runs import RecordedRun
from dpn_platform.evaluation.routing_statistics import image_pairs, keep_ratio

#: one sample as every run answered it, in the order of the runs
Sample = tuple[Row, ...]


def shared_samples(runs: Sequence[RecordedRun]) -> dict[str, Sample]:
    """Sample id -> its row in every run, for samples with an image that all runs have.

    Raises:
        DpnError: the runs share none, or an id stands for different questions.
    """
    by_id = [{str(row["question_id"]): row for row in run.rows if row["has_image"]} for run in runs]
    shared = {key: tuple(rows[key] for rows in by_id) for key in by_id[0] if all(key in rows for rows in by_id)}
    if not shared:
        raise DpnError(f"{_places(runs)}: no sample with an image is in all of them; evaluate one data set")
    for key, rows in shared.items():
        if len({row["question"] for row in rows}) > 1:
            raise DpnError(f"{_places(runs)}: sample '{key}' is another question in each; evaluate one data set")
    return shared


def _places(runs: Sequence[RecordedRun]) -> str:
    return " and ".join(run.uri for run in runs)


def pick(samples: Mapping[str, Sample], ids: Sequence[str]) -> list[Sample]:
    """The samples of these ids, in their order.

    Raises:
        DpnError: an id that the runs do not share.
    """
    unknown = [key for key in ids if key not in samples]
    if unknown:
        some = ", ".join(list(samples)[:3])
        raise DpnError(f"sample '{unknown[0]}' has no image or is not in all runs; {len(samples)} are, such as {some}")
    return [samples[key] for key in ids]


def choose_samples(samples: Mapping[str, Sample], limit: int, with_picture: set[str] | None = None) -> list[Sample]:
    """At most `limit` samples that tell the runs apart: one of every route of the first run in turn.

    Where runs differ in being right comes first, then what the first run pooled least.

    Args:
        samples: of `shared_samples`.
        limit: at most so many.
        with_picture: `image_sha`s to choose among; None: all.
    """
    known = [rows for rows in samples.values() if with_picture is None or rows[0].get("image_sha") in with_picture]
    ordered = sorted(known, key=lambda rows: (len({is_right(row) for row in rows}) < 2, -keep_ratio(rows[0])))
    turns: dict[str, int] = {}
    ranked = []
    for place, rows in enumerate(ordered):
        turns[rows[0]["route"]] = turns.get(rows[0]["route"], 0) + 1
        ranked.append((turns[rows[0]["route"]], place, rows))
    return [rows for _, _, rows in sorted(ranked, key=lambda turn: turn[:2])[:limit]]


def question_pairs(
    samples: Mapping[str, Sample], limit: int, with_picture: set[str] | None = None
) -> list[tuple[Sample, Sample]]:
    """At most `limit` pictures under a simpler and a harder question, chosen without a look at the routes."""
    first = [rows[0] for rows in samples.values()]
    pairs = image_pairs([row for row in first if with_picture is None or row.get("image_sha") in with_picture])
    return [(samples[str(simple["question_id"])], samples[str(hard["question_id"])]) for simple, hard in pairs[:limit]]


def stored_pictures(runs: Sequence[RecordedRun]) -> dict[str, bytes]:
    """`image_sha` -> encoded picture, of the examples that the runs' result.json keep."""
    encoded = [example.get("image") for run in runs for example in run.result.get("examples") or ()]
    pictures = [base64.b64decode(image) for image in encoded if image]
    return {hashlib.sha256(picture).hexdigest()[:16]: picture for picture in pictures}


def pictures_of_data(run: RecordedRun, rows: Sequence[Row], data_uri: str) -> dict[str, bytes]:
    """`image_sha` -> encoded picture of these rows, from the data set that was evaluated.

    Raises:
        DpnError: no such data set or split, or another one than the run's.
    """
    from dpn_platform.data.reading.stream import read_rows  # Ray Data's module

    key: Mapping[str, Any] = run.result.get("key") or {}
    manifest = load_manifest(data_uri)
    evaluated = key.get("data_fingerprint", manifest.fingerprint)
    if evaluated != manifest.fingerprint:
        raise DpnError(f"{data_uri}: fingerprint {manifest.fingerprint}, but {run.uri} was evaluated on {evaluated}")
    pictures: list[bytes] = []
    for shard in manifest.split(str(key.get("split", "test"))).shards:
        places = np.asarray([row["place"] for row in rows], dtype=np.int64) - shard.first_row_id
        here = places[(places >= 0) & (places < shard.rows)]
        if len(here):  # each shard that holds one of them is read once
            pictures += read_rows(manifest.shard_uri(shard), here).column("image").to_pylist()
    return {hashlib.sha256(picture).hexdigest()[:16]: picture for picture in pictures}
