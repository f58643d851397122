"""A slice of the source becomes a shard; refused rows become quarantine lines; then `verify` tells the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard, quarantine_lines
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.schema import SHARD_SCHEMA, content_digest, row_images
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.storage import join_uri, read_bytes, write_bytes

Publish = Callable[..., Manifest]


def test_shard_holds_the_good_rows_with_dense_ids(part: Slice) -> None:
    built = build_shard(part)
    table = pq.read_table(pa.BufferReader(read_bytes(join_uri(part.target_uri, built["shard"]["path"]))))

    assert table.schema.equals(SHARD_SCHEMA)
    assert table.column("row_id").to_pylist() == [40, 41, 42]
    assert table.column("source_row").to_pylist() == [40, 42, 44]
    assert table.column("has_image").to_pylist() == [True, False, False]
    assert table.column("image")[0].as_py() == read_bytes(join_uri(part.options.image_roots[0], "img/x.jpg"))
    assert (table.column("width")[0].as_py(), table.column("height")[0].as_py()) == (16, 12)
    assert (built["num_rows"], built["counts"]["has_image"], built["sources"]) == (5, 1, {"img": 1, "text": 2})


def test_refused_rows_are_kept_with_their_reason(part: Slice) -> None:
    lines = [json.loads(line) for line in quarantine_lines(build_shard(part)["rejected"]).splitlines()]

    assert [(line["source_row"], line["reason"]) for line in lines] == [(41, "image_missing"), (43, "image_missing")]
    assert json.loads(lines[0]["record"])["id"] == "r1"


def test_image_roots_are_tried_in_order(part: Slice, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Image.new("RGB", (9, 9)).save((other / "img").mkdir(parents=True) or other / "img/gone.jpg")
    Image.new("RGB", (9, 9)).save(other / "img/x.jpg")
    roots = (*part.options.image_roots, str(other))
    built = build_shard(replace(part, options=BuildOptions(roots)))
    table = pq.read_table(pa.BufferReader(read_bytes(join_uri(part.target_uri, built["shard"]["path"]))))

    assert table.column("width").to_pylist() == [16, 9, None, None]


def picture(path: Path, size: tuple[int, int]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path.read_bytes()


def test_several_pictures_of_a_row_are_kept_in_their_order(part: Slice, publish: Publish) -> None:
    folder = Path(part.options.image_roots[0]) / "img"
    pictures = [picture(folder / f"{number}.png", (20 + number, 16)) for number in range(3)]
    record = json.loads(part.rows[0].raw) | {"image": [f"img/{number}.png" for number in range(3)]}
    record["conversations"][0]["value"] = "<image>\n<image>\n<image>\nwhich?"
    several = replace(part, rows=(SourceRow(40, json.dumps(record).encode()), *part.rows[1:]))
    manifest, uri = publish(several), part.target_uri
    shard = manifest.split("train").shards[0]
    row = pq.read_table(pa.BufferReader(read_bytes(join_uri(uri, shard.path)))).to_pylist()[0]

    assert row_images(row) == pictures
    assert (row["width"], row["expected_cost"]) == (20, row["prompt_tokens"] + row["answer_tokens"] + 3 * 576)
    assert [len(row_images(row)) for row in read_rows(manifest.shard_uri(shard), np.arange(3)).to_pylist()] == [3, 0, 0]
    report = verify(manifest, decode=True)
    assert (report.problems, report.images_decoded) == ([], 3)
    other = replace(several, target_uri=f"{uri}-other")
    picture(folder / "2.png", (22, 17))
    assert build_shard(other)["shard"]["content_sha256"] != shard.content_sha256


def test_shards_without_several_pictures_have_no_column_for_them_and_are_read_as_if(
    part: Slice, publish: Publish
) -> None:
    manifest = publish(part)
    uri = manifest.shard_uri(manifest.split("train").shards[0])

    assert pq.read_table(pa.BufferReader(read_bytes(uri))).schema.equals(SHARD_SCHEMA)
    assert read_rows(uri, np.arange(3)).column("more_images").to_pylist() == [None] * 3


def test_a_picture_with_another_ending_is_named(part: Slice) -> None:
    picture(Path(part.options.image_roots[0]) / "img/gone.gif", (16, 16))
    details = {line["source_row"]: line["detail"] for line in build_shard(part)["rejected"]}

    assert details[41].startswith("img/gone.jpg is not there, but img/gone.gif is")
    assert details[43] == "img/folder"


def test_path_through_a_file_is_a_missing_image(part: Slice) -> None:
    through = part.rows[0].raw.replace(b"img/x.jpg", b"img/x.jpg/y.jpg")
    built = build_shard(replace(part, rows=(SourceRow(0, through),)))

    assert [line["reason"] for line in built["rejected"]] == ["image_missing"]


def test_same_rows_give_the_same_shard(part: Slice) -> None:
    assert build_shard(part) == build_shard(part)


def test_content_digest_sees_every_column(part: Slice) -> None:
    shard = build_shard(part)["shard"]
    table = pq.read_table(pa.BufferReader(read_bytes(join_uri(part.target_uri, shard["path"]))))

    def changed(name: str) -> pa.Table:
        rows = table.to_pylist()
        old = rows[0][name]
        rows[0][name] = {bool: lambda: not old, int: lambda: old + 1, bytes: lambda: old + b"x"}.get(
            type(old), lambda: f"{old}x"
        )()
        return pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)

    digests = {content_digest(changed(name)) for name in SHARD_SCHEMA.names}

    assert len(digests - {content_digest(table)}) == len(SHARD_SCHEMA.names)


def test_slice_without_a_good_row_writes_nothing(part: Slice, tmp_path: Path) -> None:
    built = build_shard(Slice(str(tmp_path / "out"), "train", 0, 0, (SourceRow(0, b"null"),), BuildOptions(())))

    assert built["shard"] is None
    assert not (tmp_path / "out").exists()


def test_published_manifest_comes_back(part: Slice, publish: Publish) -> None:
    published = publish(part)

    assert load_manifest(part.target_uri) == published
    assert load_manifest(part.target_uri).root == published.root == join_uri(part.target_uri)
    version = load_manifest(join_uri(part.target_uri, "manifests", f"{published.fingerprint}.json"))
    assert version.shard_uri(version.split("train").shards[0]) == published.shard_uri(
        published.splits["train"].shards[0]
    )


def test_unpublished_data_set_and_unknown_split_are_refused(part: Slice, publish: Publish) -> None:
    with pytest.raises(DpnError, match="no data set is published at"):
        load_manifest(part.target_uri)
    with pytest.raises(DpnError, match="no split 'trian'; it has: train"):
        publish(part).split("trian")


def test_other_schema_version_is_refused(part: Slice) -> None:
    write_bytes(join_uri(part.target_uri, "manifest.json"), b'{"schema_version": 99}')

    with pytest.raises(DpnError, match="schema_version 99; this version reads 2"):
        load_manifest(part.target_uri)


def test_another_data_set_is_not_overwritten_unless_forced(part: Slice, publish: Publish) -> None:
    first = publish(part)
    other = replace(part, rows=(*part.rows[:3], SourceRow(44, part.rows[4].raw.replace(b'"r4"', b'"other"'))))

    assert publish(part).fingerprint == first.fingerprint  # the same again is no conflict
    with pytest.raises(DpnError, match=f"holds another data set .fingerprint {first.fingerprint}"):
        publish(other)
    second = publish(other, force=True)

    assert load_manifest(part.target_uri).fingerprint == second.fingerprint != first.fingerprint
    old = load_manifest(join_uri(part.target_uri, "manifests", f"{first.fingerprint}.json"))
    assert verify(old).is_sound


def test_verify_finds_a_sound_data_set_sound(part: Slice, publish: Publish) -> None:
    report = verify(publish(part))

    assert report.is_sound
    assert (report.shards, report.rows) == (1, 3)


def test_verify_names_what_is_broken(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    uri = manifest.shard_uri(manifest.split("train").shards[0])
    data = read_bytes(uri)

    write_bytes(uri, data[:-1] + b"?")
    assert "sha256 differs" in verify(manifest).problems[0]
    Path(uri.removeprefix("file://")).unlink()
    assert "nothing is there" in verify(manifest).problems[0]
    write_bytes(uri, data)
    miscounted = manifest.model_copy(
        update={"splits": {"train": manifest.splits["train"].model_copy(update={"images": 7})}}
    )
    assert "says 7 images, the shards hold 1" in verify(miscounted.at(part.target_uri)).problems[0]
