"""Pictures of samples out of the data set that was evaluated, and no other."""

import hashlib

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.evaluation.recorded_runs import RecordedRun
from dpn_platform.evaluation.route_samples import choose_samples, pictures_of_data


@pytest.fixture
def data(publish, rows_table):
    """A published data set of twelve rows in two shards."""
    return publish(rows_table)


def run_of(**key):
    return RecordedRun("m", "evaluation", (), {"key": key})


def test_pictures_come_from_the_data_set(data, rows_table):
    fingerprint = load_manifest(data).fingerprint
    found = pictures_of_data(run_of(split="test", data_fingerprint=fingerprint), [{"place": 101}, {"place": 110}], data)
    images = rows_table.column("image").to_pylist()
    assert found == {hashlib.sha256(images[n]).hexdigest()[:16]: images[n] for n in (1, 10)}


def test_another_data_set_or_split_is_refused(data):
    with pytest.raises(DpnError, match="fingerprint [0-9a-f]{16}, but evaluation was evaluated on f2"):
        pictures_of_data(run_of(data_fingerprint="f2"), [{"place": 101}], data)
    with pytest.raises(DpnError, match="no split 'val'"):
        pictures_of_data(run_of(split="val"), [{"place": 101}], data)


def test_samples_that_tell_the_runs_apart_come_first():
    def sample(key, route, right, tokens=16):
        kept = {"visual_tokens": [64], "visual_tokens_mean": tokens, "route": route, "image_sha": key}
        return tuple({"question_id": key, "score": float(correct), **kept} for correct in right)

    samples = {
        "same": sample("same", "2x2", (True, True)),
        "won": sample("won", "2x2", (True, False)),
        "least pooled": sample("least pooled", "1x1", (True, True), tokens=64),
        "more": sample("more", "1x1", (True, True), tokens=32),
    }
    chosen = [rows[0]["question_id"] for rows in choose_samples(samples, 3)]
    assert chosen == ["won", "least pooled", "more"], "a sample of each route, then the next ones"
    assert [rows[0]["question_id"] for rows in choose_samples(samples, 3, {"same"})] == ["same"]
