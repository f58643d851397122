"""Raw to training stream on a real S3 server and real Ray: nothing lost, nothing twice, the same order again."""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.job import IngestOptions, ingest
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.order import plan_reads, planned_keys
from dpn_platform.data.reading.stream import planned_stream, split_dataset
from dpn_platform.demo.prepare import ensure_demo
from dpn_platform.demo.recipe import DemoRecipe
from dpn_platform.services.ray_client import init_ray

pytestmark = [pytest.mark.services, pytest.mark.ray]

BASE = f"s3://dpn/test-data-pipeline-{uuid.uuid4().hex[:8]}"
ABSENT_BUCKET = f"absent-{uuid.uuid4().hex[:8]}"
GOOD_ROWS = 120
# 17 of 167 source rows are bad: more than what is let through by default.
OPTIONS = IngestOptions(rows_per_shard=25, max_quarantined=0.2)


def picture(number: int, format_: str = "JPEG", size: tuple[int, int] = (16, 24)) -> bytes:
    """A small picture, another for every number."""
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def record(name: str, image: str | None, *, question: str = "what?", answer: str = "that") -> dict[str, Any]:
    """A record whose placeholder fits its picture."""
    lead = "<image>\n" if image else ""
    turns = [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns} | ({"image": image} if image else {})


def bad_records() -> list[tuple[str, Any]]:
    """(expected reason, record): each kind of dirt, some more than once."""
    sound = record("b0", "img/0.jpg")
    return [
        ("not_an_object", ["not", "an", "object"]),
        ("bad_id", record("", "img/0.jpg")),
        ("duplicate", record("good-0", None, question="q0")),
        ("duplicate", record("good-0", None, question="q0")),
        ("bad_turns", {**sound, "conversations": sound["conversations"][:1]}),
        ("bad_turns", {**sound, "conversations": sound["conversations"][::-1]}),
        ("empty_question", record("b1", "img/0.jpg", question=" ")),
        ("empty_answer", record("b2", "img/0.jpg", answer="")),
        ("placeholder_mismatch", {**record("b3", None), "image": "img/0.jpg"}),
        ("bad_image_path", record("b4", "../secret.jpg")),
        ("bad_image_path", record("b5", "/etc/passwd")),
        ("image_missing", record("b6", "img/never.jpg")),
        ("image_undecodable", record("b7", "bad/html.jpg")),
        ("image_truncated", record("b8", "bad/cut.jpg")),
        ("image_empty", record("b9", "bad/empty.jpg")),
        ("image_format", record("b10", "bad/tiff.jpg")),
        ("image_small", record("b11", "bad/dot.jpg")),
    ]


@pytest.fixture(scope="module")
def raw(services: Any) -> str:
    """A dirty raw set in the bucket: 120 good training rows between 17 bad ones, and a clean test split."""
    init_ray()
    storage.ensure_bucket(BASE)
    uri = f"{BASE}/raw"
    good: list[Any] = []
    for number in range(GOOD_ROWS):
        if number % 10 == 0:
            good.append(record(f"good-{number}", None, question=f"q{number}"))
            continue
        storage.write_bytes(f"{uri}/img/{number}.jpg", picture(number, "GIF" if number == 5 else "JPEG"))
        good.append(record(f"good-{number}", f"img/{number}.jpg"))
    storage.write_bytes(f"{uri}/img/0.jpg", picture(0))
    broken = {"html": b"<html>404</html>", "cut": picture(0)[:-60], "empty": b""}
    broken |= {"tiff": picture(0, "TIFF"), "dot": picture(0, size=(1, 1))}
    for name, data in broken.items():
        storage.write_bytes(f"{uri}/bad/{name}.jpg", data)
    bad = [item for _, item in bad_records()]
    storage.write_json(f"{uri}/train.json", good[:50] + bad + good[50:])
    storage.write_json(f"{uri}/test.json", good[:30])
    return uri


@pytest.fixture(scope="module")
def published(raw: str) -> Manifest:
    """The ingested set, in small shards."""
    return ingest(raw, f"{BASE}/published", options=OPTIONS)


def keys_of(dataset: Any) -> list[int]:
    """Sample keys in the order of arrival."""
    batches = dataset.iter_batches(batch_size=16, batch_format="pyarrow")
    return [key for batch in batches for key in batch["sample_key"].to_pylist()]


def test_every_row_is_published_or_quarantined_with_its_reason(published: Manifest) -> None:
    planted = Counter(reason for reason, _ in bad_records())

    assert published.quarantine.reasons == dict(sorted(planted.items()))
    assert (published.split("train").rows, published.split("test").rows) == (GOOD_ROWS, 30)
    assert published.split("train").images == GOOD_ROWS * 9 // 10
    assert published.split("train").sources == {"img": 108, "text": 12}
    lines = storage.read_bytes(f"{published.root}/{published.quarantine.path}").splitlines()
    refused = {json.loads(line)["source_row"]: json.loads(line)["reason"] for line in lines}
    assert refused == {50 + number: reason for number, (reason, _) in enumerate(bad_records())}


def test_published_set_verifies_and_carries_the_source_unchanged(published: Manifest, raw: str) -> None:
    assert verify(load_manifest(published.root)).problems == []
    records = storage.read_json(f"{raw}/train.json")
    rows = split_dataset(published, "train").take_all()

    assert {row["source_row"] for row in rows} == {*range(50), *range(67, 137)}
    for row in rows:
        source = records[row["source_row"]]
        assert (row["id"], json.loads(row["conversations"])) == (source["id"], source["conversations"])
        assert row["image"] == (storage.read_bytes(f"{raw}/{source['image']}") if "image" in source else None)


def test_shards_are_fair_samples_of_the_split(published: Manifest) -> None:
    first_shard = split_dataset(published, "train", limit=20).take_all()

    assert [row["row_id"] for row in first_shard] == list(range(20))
    assert min(row["source_row"] for row in first_shard) < 40 < 100 < max(row["source_row"] for row in first_shard)


def test_same_source_gives_the_same_fingerprint_and_another_one_is_refused(published: Manifest, raw: str) -> None:
    again = ingest(raw, f"{BASE}/again", options=OPTIONS)

    assert again.fingerprint == published.fingerprint
    with pytest.raises(DpnError, match="holds another data set .fingerprint"):
        ingest(raw, published.root, options=replace(OPTIONS, rows_per_shard=40))
    storage.write_json(f"{BASE}/fewer/train.json", storage.read_json(f"{raw}/train.json")[:40])
    before = storage.list_files(published.root)
    with pytest.raises(
        DpnError, match="another data set, made of test 30; train 137 records; this source has train 40"
    ):
        ingest(f"{BASE}/fewer", published.root, options=OPTIONS)
    assert storage.list_files(published.root) == before
    assert load_manifest(published.root) == published


def plan_of(published: Manifest, rows: int, consumed: list[int] | None = None) -> BatchPlan:
    """A run of so many rows in steps of ten, or what is left of it."""
    settings = BatchSettings(micro_batch_size=5, micro_batches_per_step=2)
    done = None if consumed is None else np.array(consumed)
    return plan_batches(published.split("train"), settings, seed=3, steps=rows // 10, consumed=done)


def test_stream_follows_the_planned_order_over_epochs(published: Manifest) -> None:
    split, plan = published.split("train"), plan_of(published, 290)
    arrived = keys_of(planned_stream(published, plan))

    assert arrived == plan.sample_keys().tolist()
    assert arrived == planned_keys(plan_reads(split, seed=3, num_rows=290), split).tolist()
    assert sorted(arrived[:GOOD_ROWS]) == sorted(row["row_id"] for row in split_dataset(published, "train").take_all())


def test_interrupted_run_sees_every_sample_once(published: Manifest) -> None:
    """Two workers, unequally far, stop; what they have not consumed arrives, and nothing else."""
    whole = keys_of(planned_stream(published, plan_of(published, 200)))
    consumed = [*whole[0:140:2], *whole[1:60:2]]

    rest = keys_of(planned_stream(published, plan_of(published, 200, consumed)))

    assert sorted(rest + consumed) == sorted(whole)
    assert keys_of(planned_stream(published, plan_of(published, 200, whole))) == []


def test_storage_error_in_a_task_arrives_as_one_line(raw: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DpnError, match=f"cannot write file://{tmp_path}/file/shards/") as refusal:
        ingest(raw, f"{tmp_path}/file")
    assert "\n" not in str(refusal.value)


def test_too_much_dirt_is_not_published_and_is_kept_for_reading(raw: str) -> None:
    target = f"{BASE}/too-dirty"
    with pytest.raises(
        DpnError, match=r"17 of 167 rows .10.18%. quarantined, --max-quarantined allows 5.00%"
    ) as refusal:
        ingest(raw, target)

    assert len(storage.read_bytes(table_of(refusal.value)).splitlines()) == 17
    with pytest.raises(DpnError, match="holds shards but no manifest.json"):
        load_manifest(target)


def table_of(refusal: DpnError) -> str:
    """The quarantine table that the message says how to show."""
    return str(refusal).split("`dpn data quarantine ")[1].partition("`")[0]


def test_mistyped_bucket_is_refused_before_the_work(raw: str) -> None:
    with pytest.raises(DpnError, match=f"there is no bucket '{ABSENT_BUCKET}'"):
        ingest(raw, f"s3://{ABSENT_BUCKET}/x")
    assert not storage.exists(f"s3://{ABSENT_BUCKET}")


def test_demo_set_is_made_once(raw: str) -> None:
    recipe, stages = DemoRecipe(num_train=24, num_test=10), list[str]()
    uri, raw_uri = f"{BASE}/demo", f"{BASE}/raw-demo"
    made = ensure_demo(recipe, uri=uri, raw_uri=raw_uri, on_progress=lambda stage, *_: stages.append(stage))
    assert set(stages) == {"drawing", "ingesting"}
    assert made.quarantine.rows == 0
    stages.clear()
    again = ensure_demo(recipe, uri=uri, raw_uri=raw_uri, on_progress=lambda stage, *_: stages.append(stage))

    assert (again, stages) == (made, [])
    older = {**storage.read_json(f"{uri}/manifest.json"), "schema_version": 1, "fingerprint": "of schema 1"}
    storage.write_json(f"{uri}/manifest.json", older)
    assert ensure_demo(recipe, uri=uri, raw_uri=raw_uri) == made  # ingested again, not drawn again
    with pytest.raises(DpnError, match="another data set"):
        ensure_demo(DemoRecipe(num_train=25, num_test=10), uri=uri, raw_uri=raw_uri)


def test_store_keeps_the_contract_of_local_files(services: Any) -> None:
    uri = f"{BASE}/objects/odd ?#%20 name.bin"
    storage.write_bytes(uri, b"x")

    assert storage.list_files(f"{BASE}/objects") == [uri]
    assert storage.read_bytes(uri) == b"x"
    assert [storage.create_bytes(f"{BASE}/lease", b"1"), storage.create_bytes(f"{BASE}/lease", b"2")] == [True, False]
    with pytest.raises(storage.MissingObjectError, match=f"cannot read {BASE}/none: nothing is there"):
        storage.read_bytes(f"{BASE}/none")
