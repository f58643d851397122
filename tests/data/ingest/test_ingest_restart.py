"""Killed at random points and started again, the building of a set ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dpn_platform.data.ingest.finished import finish_slice, slice_digest
from dpn_platform.data.ingest.policy import Policy
from dpn_platform.data.ingest.shards import Slice, SourceRow
from dpn_platform.demo.mix.build import MixRecipe, make_mix

KILLS = 5
SHARDS = 30
# What the Ray job does, slice after slice in one process.
BUILD = """
import sys
from dpn_platform.data.ingest.assembly import Origin, assemble
from dpn_platform.data.ingest.finished import finish_slice
from dpn_platform.data.published.manifest import publish_manifest
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source

source, target = sys.argv[1:]
raw, files = folder_source(source), {}
build = BuildOptions(raw.image_roots)
results = [finish_slice(part) for part in read_slices(raw, target, build, 10, files)]
manifest = assemble(results, target, Origin("mix", raw.name, None, files, None), build)
publish_manifest(target, manifest)
print(sum(result["reused"] for result in results))
"""


def start(source: Path, target: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILD, str(source), str(target)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def files_in(folder: Path) -> dict[str, int]:
    """Modification times of the finished files."""
    names = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in names}


def test_five_kills_change_nothing(tmp_path: Path) -> None:
    make_mix(f"{tmp_path}/raw", MixRecipe(rows=10 * SHARDS, dirty=0.1, scale=0.15, lines=True))
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(tmp_path / "raw", undisturbed).communicate()[0] == "0\n"
    chance = random.Random(4)

    for _ in range(KILLS):
        process, wanted = start(tmp_path / "raw", killed), len(files_in(killed)) + chance.randint(1, 8)
        while len(files_in(killed)) < wanted:
            assert process.poll() is None, "it ended before it could be killed"
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "manifest.json").exists()
    before = files_in(killed)
    process = start(tmp_path / "raw", killed)

    finished = sum(name.startswith("ingest/") for name in before)
    assert process.communicate()[0] == f"{finished}\n"
    assert {name: files_in(killed)[name] for name in before if name.startswith("ingest/")}.items() <= before.items()
    assert (killed / "manifest.json").read_bytes() == (undisturbed / "manifest.json").read_bytes()
    shards = json.loads((killed / "manifest.json").read_text())["splits"]["train"]["shards"]
    for shard in shards:
        assert (killed / shard["path"]).read_bytes() == (undisturbed / shard["path"]).read_bytes()
    assert len(shards) == SHARDS


def test_finished_slice_is_taken_over_and_means_the_same(part: Slice) -> None:
    first = finish_slice(part)
    again = finish_slice(part)

    assert (first.pop("reused"), again.pop("reused")) == (False, True)
    assert again == first
    assert finish_slice(part, fresh=True) == {**first, "reused": False}


@pytest.mark.parametrize(
    "change",
    [
        lambda part: replace(part, rows=(*part.rows[:4], SourceRow(44, part.rows[4].raw + b" "))),
        lambda part: replace(part, rows=(*part.rows[:4], replace(part.rows[4], is_duplicate=True))),
        lambda part: replace(part, options=replace(part.options, policy=Policy.parse(["image_small=keep"]))),
        lambda part: replace(part, options=replace(part.options, visual_tokens=1)),
        lambda part: replace(part, first_row_id=41),
    ],
)
def test_changed_source_or_options_find_no_old_result(part: Slice, change: Callable[[Slice], Slice]) -> None:
    finish_slice(part)

    assert slice_digest(change(part)) != slice_digest(part)
    assert not finish_slice(change(part))["reused"]


def test_slice_is_built_again_when_its_shard_or_its_result_is_gone(part: Slice) -> None:
    result = finish_slice(part)
    shard = Path(part.target_uri) / result["shard"]["path"]
    shard.unlink()
    assert not finish_slice(part)["reused"]
    assert shard.exists()

    next((Path(part.target_uri) / "ingest").iterdir()).write_text('{"half')
    assert not finish_slice(part)["reused"]


def test_slice_is_built_again_once_a_missing_image_is_there(part: Slice) -> None:
    assert [row["reason"] for row in finish_slice(part)["rejected"]] == ["image_missing"] * 2
    Image.new("RGB", (16, 12)).save(Path(part.options.image_roots[0]) / "img/gone.jpg")
    result = finish_slice(part)

    assert (result["reused"], result["shard"]["rows"], len(result["rejected"])) == (False, 4, 1)
