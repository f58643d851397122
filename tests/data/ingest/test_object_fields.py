"""Records with boxes: each kind of bad one gets its own reason; sound ones become a column that older sets lack."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpn_model.objects.record import ObjectRecord
from dpn_platform.cli.data_inspection import show_manifest
from dpn_platform.data.ingest.policy import Findings, Policy, RejectedError
from dpn_platform.data.ingest.record_forms import as_conversation
from dpn_platform.data.ingest.shards import Slice, SourceRow, build_shard
from dpn_platform.data.ingest.spool import RecordSpool
from dpn_platform.data.ingest.tokens import estimated_tokens
from dpn_platform.data.ingest.validation import check_record
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of
from dpn_platform.data.published.schema import (
    MORE_IMAGES,
    OBJECTS,
    SCHEMA_VERSION,
    SHARD_SCHEMA,
    content_digest,
    shard_bytes,
    shard_table,
)
from dpn_platform.data.published.stats import collect_stats
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.storage import join_uri, read_bytes, write_bytes

ANSWER = "<ground>cat</ground><objects><obj0><obj1></objects>"
#: of the picture of `part`, which has 16 x 12 pixels
FIELDS: dict[str, Any] = {
    "boxes": [[0, 0, 8, 8], [4.5, 2, 16, 12]],
    "truth": {"boxes": [[0, 0, 8, 8]], "categories": ["cat"], "frequencies": {"cat": "r"}},
    "proposals": {"boxes": [[0, 0, 8, 8.2], [1, 1, 3, 3]], "scores": [0.9, 0.5]},
}


def record(answer: str = ANSWER, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhere is <obj1>?"}, {"from": "gpt", "value": answer}]
    return {"id": "r0", "image": "img/x.jpg", "conversations": turns, **FIELDS, **fields}


def with_boxes(part: Slice, *records: dict[str, Any]) -> Slice:
    """The slice with these records in front of its own."""
    rows = [SourceRow(number, json.dumps(one).encode()) for number, one in enumerate(records)]
    return replace(part, rows=(*rows, *part.rows[len(rows) :]))


def rows_of(part: Slice, built: dict[str, Any]) -> pa.Table:
    return pq.read_table(pa.BufferReader(read_bytes(join_uri(part.target_uri, built["shard"]["path"]))))


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"boxes": None}, "bad_boxes", "boxes is NoneType; wanted a list of [x1, y1, x2, y2]"),
        ({"boxes": [[0, 0, 8, 8], [4, 4, 4, 9]]}, "bad_boxes", "boxes[1] = [4, 4, 4, 9] has no area"),
        ({"boxes": [[0, 0, 1, 1], [0.2, 0.3, 0.4, 0.5]]}, "bad_boxes", "wanted pixels, not shares of the picture"),
        ({"scores": [0.1]}, "bad_boxes", "scores hold 1 numbers for 2 boxes"),
        ({"proposals": {"boxes": [[0, 0, 1, 1]]}}, "bad_boxes", "proposals have no scores"),
        (
            {"boxes": [[0, 0, 8, 8]]},
            "bad_object_index",
            "<obj1> in turn 1 of a record of 1 boxes; allowed: <obj0> to <",
        ),
        ({"boxes": []}, "bad_object_index", "<obj1> in turn 1 of a record of 0 boxes; allowed: none"),
        ({"answer": "<obj01>"}, "bad_object_index", "<obj01> in turn 2 of a record of 2 boxes"),
        ({"answer": f"<obj{'1' * 9000}>"}, "bad_object_index", "<obj1111111111111111 in turn 2"),
        ({"answer": "<obj0><objfeat>"}, "stray_object_tag", "<objfeat> in turn 2: the model's own prompt sets it"),
        (dict.fromkeys(FIELDS), "stray_object_tag", "<obj1> in turn 1 of a record without 'boxes'"),
    ],
)
def test_what_is_unsound_is_refused_before_the_picture_is_read(change: dict[str, Any], reason: str, told: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check_record(record(**change), Findings())
    assert (refusal.value.reason, told in refusal.value.detail) == (reason, True), refusal.value
    assert "\n" not in str(refusal.value)


def test_boxes_are_of_one_picture() -> None:
    turns = [{"from": "human", "value": "<image> <image> which?"}, {"from": "gpt", "value": "<obj0>"}]
    with pytest.raises(RejectedError, match="boxes_picture: 2 boxes for 2 images; wanted exactly one image"):
        check_record(record(image=["a.jpg", "b.jpg"], conversations=turns), Findings())
    text = [{"from": "human", "value": "which?"}, {"from": "gpt", "value": "<obj0>"}]
    with pytest.raises(RejectedError, match="boxes_picture: 2 boxes for 0 images"):
        check_record(record(image=None, conversations=text), Findings())


def test_fields_of_other_data_sets_are_no_boxes() -> None:
    turns = [{"from": "human", "value": "<image> <object> in HTML?"}, {"from": "gpt", "value": "yes"}]
    other = record(conversations=turns, boxes=None, proposals=None, truth="it is", scores={"clip": 0.3})
    assert check_record(other, Findings()).objects is None


def test_a_plain_record_keeps_its_boxes() -> None:
    plain = {"image": "x.jpg", "question": "Where is a cat?", "answer": ANSWER, "scores": "", **FIELDS}
    assert check_record(as_conversation(plain, 0), Findings()).objects == FIELDS


def test_duplicates_are_equal_in_their_boxes() -> None:
    moved = {**FIELDS["truth"], "boxes": [[0, 0, 8, 7]]}
    records = [record(), record(truth=moved), record(), record(boxes=[[0, 0, 8, 8], [4.5, 2, 16, 11]])]
    with RecordSpool([json.dumps(one).encode() for one in records]) as spool:
        assert spool.duplicates().tolist() == [False, False, True, False]


def test_what_lies_outside_the_picture_is_refused_with_its_size(part: Slice) -> None:
    truth = {"boxes": [[0, 0, 16, 12.5]], "categories": ["cat"]}
    built = build_shard(with_boxes(part, record(boxes=[[0, 0, 8, 8], [0, 0, 17, 8]]), record(truth=truth)))

    assert [(line["reason"], line["detail"]) for line in built["rejected"][:2]] == [
        ("bad_boxes", "boxes[1] = [0, 0, 17, 8] is outside the picture of 16 x 12"),
        ("bad_boxes", "truth.boxes[0] = [0, 0, 16, 12.5] is outside the picture of 16 x 12"),
    ]


def test_a_picture_that_would_be_turned_under_its_boxes_is_refused(part: Slice) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 12)).save(Path(part.options.image_roots[0]) / "img/x.jpg", exif=exif)
    whole = with_boxes(part, record())
    as_stored = replace(whole, options=replace(whole.options, policy=Policy.parse(["image_rotated=keep"])))

    assert build_shard(whole)["rejected"][0]["reason"] == "image_rotated"
    assert build_shard(as_stored)["counts"]["objects"] == 1


def test_boxes_become_a_column_of_the_shards_that_have_some(part: Slice) -> None:
    whole = with_boxes(part, record())
    table = rows_of(whole, build_shard(whole))
    without = rows_of(part, build_shard(part))

    assert table.column_names == [*SHARD_SCHEMA.names, OBJECTS.name]
    assert without.schema.equals(SHARD_SCHEMA)
    texts = table.column(OBJECTS.name).to_pylist()
    assert texts == [ObjectRecord.of_fields(FIELDS).to_json(), None, None]
    row = table.to_pylist()[0]
    # Two boxes and the proposal that is none of them again.
    assert row["expected_cost"] == row["prompt_tokens"] + row["answer_tokens"] + 576 + 2 * 3


def test_a_shard_without_boxes_keeps_the_digest_it_had() -> None:
    """The digest of rows as they were published before shards could hold boxes."""
    rows = [
        {
            **dict.fromkeys(SHARD_SCHEMA.names, 0),
            **dict.fromkeys(("id", "split", "source", "conversations"), "x"),
            "row_id": number,
            "difficulty": None,
            "repairs": None,
            "has_image": True,
            "image": bytes([number]),
            MORE_IMAGES.name: [b"more"] if number else None,
        }
        for number in range(2)
    ]

    assert content_digest(shard_table(rows)) == "a5ba7eb32dcdccf2b12f3e0beec9f448d82b4db931d3cfa7544daea581eee248"
    changed = [{**rows[0], OBJECTS.name: "{}"}, rows[1]]
    moved = [rows[0], {**rows[1], OBJECTS.name: "{}"}]
    digests = {content_digest(shard_table(one)) for one in (rows, changed, moved)}
    assert len(digests) == 3


def test_readers_get_the_columns_in_any_case(part: Slice) -> None:
    built = build_shard(with_boxes(part, record()))
    uri = join_uri(part.target_uri, built["shard"]["path"])
    table = read_rows(uri, np.arange(3))

    assert table.column_names == [*SHARD_SCHEMA.names, MORE_IMAGES.name, OBJECTS.name]
    assert [text is None for text in table.column(OBJECTS.name).to_pylist()] == [False, True, True]
    assert read_rows(join_uri(part.target_uri, build_shard(part)["shard"]["path"]), np.arange(3)).schema == table.schema


def published(part: Slice, *, objects: int, table: pa.Table | None = None) -> Manifest:
    """The manifest of the slice's shard, or of this table in its place."""
    built = build_shard(part)
    shard = Shard(**built["shard"])
    if table is not None:
        data = shard_bytes(table)
        write_bytes(join_uri(part.target_uri, shard.path), data)
        digests = {"sha256": hashlib.sha256(data).hexdigest(), "content_sha256": content_digest(table)}
        shard = shard.model_copy(update=digests)
    sums = {name: total for name, total in built["counts"].items() if name not in ("has_image", "objects")}
    split = Split(rows=3, images=1, text_only=2, objects=objects, sources=built["sources"], shards=(shard,), **sums)
    splits = {"train": split}
    about = {"schema_version": SCHEMA_VERSION, "name": "x", "source": "x", "quarantine": Quarantine()}
    return Manifest(**about, splits=splits, fingerprint=fingerprint_of(splits)).at(part.target_uri)


def test_verify_and_stats_see_boxes(part: Slice) -> None:
    whole = with_boxes(part, record())
    manifest = published(whole, objects=1)

    assert verify(manifest).problems == []
    assert "says 0 rows with boxes, the shards hold 1" in verify(published(whole, objects=0)).problems[0]
    stats = collect_stats(manifest).to_json()
    assert [line["mean_boxes"] for line in stats["composition"]] == [2, 0]
    assert stats["quantiles"]["boxes"]["p50"] == 2
    assert "mean_boxes" not in collect_stats(published(part, objects=0)).to_json()["composition"][0]


def test_verify_names_a_row_whose_boxes_are_not_of_its_picture(part: Slice) -> None:
    whole = with_boxes(part, record())
    rows = rows_of(whole, build_shard(whole)).to_pylist()
    rows[0]["width"] = 9
    (problem,) = verify(published(whole, objects=1, table=shard_table(rows))).problems

    assert "the boxes of row 40: boxes[1] = [4.5, 2, 16, 12] is outside the picture of 9 x 12" in problem


def test_a_tag_is_estimated_as_one_token() -> None:
    turns = [{"from": "human", "value": "which"}, {"from": "gpt", "value": ANSWER}]
    assert estimated_tokens(turns) == (42 + 2, 1 + 6 + 1)  # the word, two spans and two indices, the end


def test_ingest_tells_of_boxes_only_where_there_are_some(part: Slice, capsys: pytest.CaptureFixture[str]) -> None:
    show_manifest(published(with_boxes(part, record()), objects=1), False)
    assert "with boxes" in capsys.readouterr().out
    show_manifest(published(part, objects=0), False)
    assert "with boxes" not in capsys.readouterr().out
