"""A store that is busy, late, hangs up or sends half a body: everything ends correct, refusals are one clear line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.sources import folder_source
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.reading.batch_plan import plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.regroup import micro_batches
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.demo.mix.build import MixRecipe, make_mix
from dpn_platform.demo.prepare import DemoRecipe, ensure_demo

pytestmark = pytest.mark.services

BASE = f"s3://dpn/test-faults-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def faulty(services: Any, faulty_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The process's S3 is behind the proxy, with four times the faults that are asked of it."""
    with faulty_store(services.s3_url, rate=0.2) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        yield store


def test_objects_survive(faulty: Any, tmp_path: Path) -> None:
    contents = {f"{BASE}/objects/{number}": bytes([number]) * (number * 5000) for number in range(30)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(storage.write_bytes, contents, contents.values()))
        created = list(
            pool.map(lambda number: storage.create_bytes(f"{BASE}/once/{number}", b"%d" % number), range(10))
        )
        assert list(pool.map(storage.read_bytes, contents)) == list(contents.values())

    assert created == [True] * 10
    assert not storage.create_bytes(f"{BASE}/once/3", b"other")
    assert storage.list_files(f"{BASE}/objects") == sorted(contents)
    storage.download_folder(f"{BASE}/objects", tmp_path / "copy")
    assert all((tmp_path / "copy" / uri.rsplit("/")[-1]).read_bytes() == data for uri, data in contents.items())
    assert {"busy", "reset", "truncated", "late"} <= set(faulty.met)


def test_large_object_goes_up_in_parts_and_whole(faulty: Any) -> None:
    data = np.random.default_rng(0).bytes(25 * 2**20)

    storage.write_bytes(f"{BASE}/large", data)

    assert storage.read_bytes(f"{BASE}/large") == data


def test_ingest_builds_the_same_set(small_set: Manifest, build_small_set: Callable[[], Manifest], faulty: Any) -> None:
    again = build_small_set()

    assert again.fingerprint == small_set.fingerprint
    assert again.split("train") == small_set.split("train")
    assert sum(faulty.met.values()) > faulty.met["none"]


def test_rows_and_plan_survive(faulty: Any, small_set: Manifest) -> None:
    split, index = small_set.split("train"), read_row_index(small_set, "train")
    settings = BatchSettings(4, 2, by_modality=True)
    plan = plan_batches(split, settings, seed=1, index=index)

    def tables() -> Iterator[Any]:
        for read in plan.reads:
            table = read_rows(small_set.shard_uri(read.shard), read.positions)
            yield table.append_column("sample_key", [read.sample_keys(plan.span)])

    seen = [row for table in micro_batches(tables(), plan) for row in table.to_pylist()]

    assert sorted(row["row_id"] for row in seen) == list(range(160))
    for row in seen:
        assert f"what is {row['row_id']}?" in json.loads(row["conversations"])[0]["value"]
        assert (row["image"] is None) == (row["row_id"] % 5 == 0) == (not index.has_image[row["row_id"]])


def test_a_store_that_never_answers_is_one_line(
    services: Any, small_set: Manifest, faulty_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn_platform.storage.retry.ATTEMPTS", 2)
    monkeypatch.setattr("dpn_platform.storage.uri.MAX_ATTEMPTS", 2)
    with faulty_store(services.s3_url, rate=1.0, seed=1) as store:
        monkeypatch.setattr(store, "next_fault", lambda: "busy")
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        with pytest.raises(DpnError, match=f"cannot read {small_set.root}/manifest.json") as refusal:
            storage.read_bytes(f"{small_set.root}/manifest.json")
    assert "\n" not in str(refusal.value)


def test_missing_bucket_is_named(services: Any) -> None:
    with pytest.raises(storage.MissingObjectError, match=r"there is no bucket 'never-made-bucket'"):
        storage.read_bytes("s3://never-made-bucket/x")


@pytest.mark.parametrize(
    "attempt",
    [
        load_manifest,
        folder_source,
        lambda uri: make_mix(uri, MixRecipe(rows=1)),
        lambda uri: ensure_demo(DemoRecipe(4, 2), uri=uri, raw_uri=BASE),
        lambda uri: ensure_demo(DemoRecipe(4, 2), uri=BASE, raw_uri=uri),
    ],
)
def test_every_verb_names_a_missing_bucket_and_makes_none(services: Any, attempt: Callable[[str], Any]) -> None:
    with pytest.raises(DpnError, match=r"s3://never-made-bucket/x: there is no bucket 'never-made-bucket'"):
        attempt("s3://never-made-bucket/x")
    assert not storage.exists("s3://never-made-bucket")


def test_nobody_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpn_platform.storage.uri.MAX_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(DpnError, match=r"S3 at http://127.0.0.1:9\): nobody answers at that address; check") as said:
        storage.read_bytes(f"{BASE}/x")
    assert "\n" not in str(said.value)


def test_wrong_credentials_are_named_and_not_shown(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-me")

    for attempt in (
        lambda: storage.read_bytes(f"{BASE}/objects/1"),
        lambda: storage.write_bytes(f"{BASE}/objects/1", b"x"),
        lambda: storage.create_bytes(f"{BASE}/objects/new", b"x"),
    ):
        with pytest.raises(DpnError, match="does not accept the credentials; check AWS_ACCESS_KEY_ID") as refusal:
            attempt()
        assert "do-not-show-me" not in str(refusal.value)
        assert "\n" not in str(refusal.value)
