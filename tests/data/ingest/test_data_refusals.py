"""What cannot be ingested or read is refused in one line, and nothing is damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform.cli.main import run
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest import job
from dpn_platform.data.ingest.assembly import Origin, assemble, check_quarantined
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source
from dpn_platform.data.published.manifest import (
    Annotations,
    Manifest,
    load_manifest,
    publish_manifest,
    published_recipe,
)
from dpn_platform.data.published.presence import require_captions, require_shards
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.demo.mix.build import MixRecipe, make_mix
from dpn_platform.storage import join_uri, open_uri, read_bytes, write_bytes, write_json

Publish = Callable[..., Manifest]
# A disk of 150 KB: the first shards fit, a later one does not.
FULL_DISK = """
import json, sys
from pathlib import Path
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.finished import finish_slice
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source

source, target = sys.argv[1:]
raw, results, message = folder_source(source), [], ""
try:
    for part in read_slices(raw, target, BuildOptions(raw.image_roots), 20, {}):
        results.append(finish_slice(part))
except DpnError as error:
    message = str(error)
shards = sorted(str(path.relative_to(target)) for path in Path(target, "shards").iterdir())
sizes = {path: Path(target, path).stat().st_size for path in shards}
print(json.dumps({"message": message, "built": len(results), "sizes": sizes,
                  "recorded": [result["shard"] for result in results]}))
"""


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `dpn data ...` says on stderr; asserts that it is one line and exit code 2."""
    assert run(["data", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dpn: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_bad_arguments_are_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(tmp_path / "raw"), str(tmp_path / "out")

    assert "no raw data set there" in refused(capsys, "ingest", source, target)
    assert "did you mean 'image_cmyk'" in refused(capsys, "ingest", source, target, "--on", "image_cmy=keep")
    assert "expected either SOURCE URI" in refused(capsys, "ingest", target)
    assert "expected either SOURCE URI" in refused(capsys, "ingest", source, target, "--annotations", "x.json")
    assert "there is no such file" in refused(capsys, "ingest", target, "--annotations", f"val={source}/x.json")
    assert "unknown scheme 'gs'" in refused(capsys, "ingest", "gs://bucket/x", target)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["verify", "stats", "quarantine"])
def test_a_half_published_set_is_named_as_such(
    part: Slice, capsys: pytest.CaptureFixture[str], verb: str, tmp_path: Path
) -> None:
    build_shard(part)

    assert "holds shards but no manifest.json" in refused(capsys, verb, part.target_uri)
    assert "no data set is published at" in refused(capsys, verb, str(tmp_path / "raw"))


@pytest.mark.parametrize("verb", ["verify", "stats", "quarantine"])
def test_an_older_schema_is_refused_with_the_way_on(
    part: Slice, publish: Publish, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    downgrade(publish(part))

    said = refused(capsys, verb, part.target_uri)
    assert "schema_version 1; this version reads 2" in said
    assert f"`dpn data ingest memory {part.target_uri} --force`" in said


@pytest.mark.parametrize("content", ["[]", "", '{"id": 1}', '[{"id": 1},', "[1] [2]"])
def test_annotations_without_a_list_of_records_are_refused(tmp_path: Path, content: str) -> None:
    write_bytes(tmp_path / "train.json", content.encode())
    source = folder_source(str(tmp_path))

    with pytest.raises(DpnError, match=f"{tmp_path}/train.json: (expected a .*list of records|not valid JSON)") as said:
        list(read_slices(source, str(tmp_path / "out"), BuildOptions(source.image_roots), 10, {}))
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named_wherever_it_is_read(
    part: Slice, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = publish(part)
    uri = manifest.shard_uri(manifest.split("train").shards[0])
    write_bytes(uri, read_bytes(uri)[:1000])
    damaged = f"cannot read {uri}: it is damaged"

    assert damaged in refused(capsys, "stats", manifest.root)
    for attempt in (lambda: read_row_index(manifest, "train"), lambda: read_rows(uri, np.arange(2))):
        with pytest.raises(DpnError, match=damaged):
            attempt()
    size = manifest.split("train").shards[0].bytes
    with pytest.raises(DpnError, match=rf"{uri}: .* has 1000 bytes, published were {size} \(1 of 1 shards"):
        require_shards(manifest, "train")
    assert run(["data", "verify", manifest.root]) == 1
    assert "its 1000 bytes are not those that were published" in capsys.readouterr().err


def test_a_missing_shard_is_named_before_work_starts(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    require_shards(manifest, "train")
    uri = manifest.shard_uri(manifest.split("train").shards[0])
    open_uri(uri).filesystem.delete_file(open_uri(uri).path)

    with pytest.raises(DpnError, match=f"{uri}: the manifest names this shard, but it is missing .*`dpn data verify"):
        require_shards(manifest, "train")


def test_rows_that_are_no_captions_are_named_before_stage_1_starts(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    with pytest.raises(DpnError, match=r"2 of 3 rows of the split 'train' of .* another form \(row 41: no picture\)"):
        require_captions(manifest, "train")

    pictured = publish(replace(part, rows=part.rows[:1], target_uri=f"{part.target_uri}-pictured"))
    require_captions(pictured, "train")


def test_half_a_manifest_is_named_and_replaced_when_forced(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    write_bytes(f"{manifest.root}/manifest.json", manifest.to_bytes()[:100])

    for attempt in (lambda: load_manifest(manifest.root), lambda: publish_manifest(manifest.root, manifest)):
        with pytest.raises(DpnError, match=r"/manifest.json: not valid JSON"):
            attempt()
    publish_manifest(manifest.root, manifest, force=True)
    assert load_manifest(manifest.root) == manifest


def test_a_target_that_cannot_be_written_is_one_line(part: Slice, tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="cannot write file:///proc/x/shards/.*: its folder cannot be made"):
        build_shard(replace(part, target_uri="/proc/x"))
    with pytest.raises(DpnError, match=r"cannot write file:///proc/x/.*: its folder cannot be made"):
        make_mix("/proc/x", MixRecipe(rows=1, scale=0.1))


def test_a_relative_target_is_the_same_for_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(_: object, target_uri: str, *__: object) -> None:
        raise DpnError(f"slices of {target_uri}")

    (tmp_path / "train.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "read_slices", told)
    with pytest.raises(DpnError, match=f"^slices of file://{tmp_path}/set$"):
        job.ingest(str(tmp_path), "set")


def downgrade(manifest: Manifest) -> None:
    """Makes the published manifest look like that of an earlier version."""
    older = {**json.loads(manifest.to_bytes()), "schema_version": 1, "fingerprint": "0" * 16, "recipe": {"kind": "old"}}
    write_json(join_uri(manifest.root, "manifest.json"), older)


def test_an_older_schema_is_replaced_when_forced(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    downgrade(manifest)

    assert published_recipe(part.target_uri) == (1, {"kind": "old"})
    with pytest.raises(DpnError, match="holds another data set .fingerprint 0000000000000000"):
        publish_manifest(part.target_uri, manifest)
    publish_manifest(part.target_uri, manifest, force=True)
    assert load_manifest(part.target_uri) == manifest


def counted(part: Slice) -> tuple[Manifest, list[dict[str, Any]], str]:
    """The unpublished manifest of one slice, its result, where it lies."""
    files = {"train": (Annotations(uri="x.json", rows=len(part.rows)),)}
    results = [build_shard(part)]
    manifest = assemble(results, part.target_uri, Origin("x", "x", None, files, None), part.options)
    return manifest, results, part.target_uri


def test_too_many_quarantined_rows_are_refused_and_counted(part: Slice) -> None:
    check_quarantined(*counted(part), 0.4)

    shown = "image_missing 2. image_missing, as in record 41 of train: img/gone.jpg. `dpn"
    with pytest.raises(DpnError, match=rf"2 of 5 rows .40.00%. .* allows 39.00%; .* {shown}") as refusal:
        check_quarantined(*counted(part), 0.39)
    table = read_bytes(str(refusal.value).split("`dpn data quarantine ")[1].partition("`")[0])
    assert [json.loads(line)["source_row"] for line in table.splitlines()] == [41, 43]


def test_a_set_without_a_row_is_not_published(part: Slice) -> None:
    with pytest.raises(DpnError, match="1 of 1 rows .* no row is left; nothing was published"):
        check_quarantined(*counted(replace(part, rows=(SourceRow(0, b"{"),))), 1.0)


def test_a_full_disk_is_one_line_and_damages_nothing(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a user namespace to mount a small disk in")
    make_mix(f"{tmp_path}/raw", MixRecipe(rows=200, scale=0.2))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=150k none "$1" && exec "$2" -c "$3" "$4" "$1"'
    finished = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), sys.executable, FULL_DISK, f"{tmp_path}/raw"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    seen = json.loads(finished.stdout)

    assert "No space left on device" in seen["message"]
    assert seen["message"].startswith(f"cannot write file://{disk}/")
    assert "\n" not in seen["message"]
    assert 0 < seen["built"] < 10
    for shard in seen["recorded"]:
        assert seen["sizes"][shard["path"]] == shard["bytes"]
    assert not [path for path in seen["sizes"] if path.endswith(".tmp")]
