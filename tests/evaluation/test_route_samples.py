"""Pictures of samples out of the data set that was evaluated, and no other."""

import hashlib

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, publish_manifest
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.recorded_runs import RecordedRun
from dpn_platform.evaluation.route_samples import choose_samples, pictures_of_data


@pytest.fixture
def data(shards_folder):
    """A published data set of twelve rows in two shards."""
    shards = tuple(
        Shard(path=f"{n}.parquet", rows=6, first_row_id=100 + 6 * n, bytes=1, sha256="", content_sha256="")
        for n in range(2)
    )
    splits = {"test": Split(rows=12, images=8, text_only=4, sources={}, shards=shards)}
    common = {
        "schema_version": SCHEMA_VERSION,
        "name": "m",
        "source": "",
        "quarantine": Quarantine(),
        "fingerprint": "f1",
    }
    publish_manifest(str(shards_folder), Manifest(splits=splits, **common))
    return str(shards_folder)


def run_of(**key):
    return RecordedRun("m", "evaluation", (), {"key": key})


def test_pictures_come_from_the_data_set(data, rows_table):
    found = pictures_of_data(run_of(split="test", data_fingerprint="f1"), [{"row_id": 101}, {"row_id": 110}], data)
    images = rows_table.column("image").to_pylist()
    assert found == {hashlib.sha256(images[n]).hexdigest()[:16]: images[n] for n in (1, 10)}


def test_another_data_set_or_split_is_refused(data):
    with pytest.raises(DpnError, match="fingerprint f1, but evaluation was evaluated on f2"):
        pictures_of_data(run_of(data_fingerprint="f2"), [{"row_id": 101}], data)
    with pytest.raises(DpnError, match="no split 'val'"):
        pictures_of_data(run_of(split="val"), [{"row_id": 101}], data)


def test_samples_that_tell_the_runs_apart_come_first():
    def sample(key, route, right, tokens=16):
        kept = {"visual_tokens": [64], "visual_tokens_mean": tokens, "route": route, "image_sha": key}
        return tuple({"id": key, "correct": correct, **kept} for correct in right)

    samples = {
        "same": sample("same", "2x2", (True, True)),
        "won": sample("won", "2x2", (True, False)),
        "least pooled": sample("least pooled", "1x1", (True, True), tokens=64),
        "more": sample("more", "1x1", (True, True), tokens=32),
    }
    chosen = [rows[0]["id"] for rows in choose_samples(samples, 3)]
    assert chosen == ["won", "least pooled", "more"], "a sample of each route, then the next ones"
    assert [rows[0]["id"] for rows in choose_samples(samples, 3, {"same"})] == ["same"]
