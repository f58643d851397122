"""Killed at random points and started again, proposing ends with the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpn_model.objects.boxes import box_array
from dpn_model.proposals.jitter import JitteredTruth
from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.rows import Asked
from dpn_platform.data.proposing.shards import Portion, finished, propose_shard
from dpn_platform.data.published.manifest import Manifest
from tests.data.proposing.published_set import TRUTH, publish_set

KILLS, SHARDS = 3, 12
# What the Ray job does, shard after shard in one process.
PROPOSE = """
import sys
from dpn_model.proposals.files import ProposalFile
from pathlib import Path
from dpn_platform.data.proposing.rows import Asked
from dpn_platform.data.proposing.shards import Portion, finished, propose_shard
from dpn_platform.data.published.manifest import load_manifest

uri, target, file = sys.argv[1:]
manifest, reused = load_manifest(uri), 0
asked = Asked(ProposalFile(Path(file)), False, {})
for index, shard in enumerate(manifest.splits["train"].shards):
    portion = Portion(manifest.shard_uri(shard), shard, "train", index, target, {"digest": "x"})
    if finished(portion) is None:
        propose_shard(portion, asked)
    else:
        reused += 1
print(reused)
"""


class Anywhere(JitteredTruth):
    """Jittered boxes of the same truth for every picture: rows without any would be refused."""

    def propose(self, images: Any, questions: Any = None, known: Any = None) -> Any:
        return super().propose(images, questions, [replace(one, boxes=box_array(TRUTH["boxes"])) for one in known])


def portions(manifest: Manifest, target: Path, **decides: Any) -> list[Portion]:
    shards = manifest.splits["train"].shards
    return [
        Portion(manifest.shard_uri(shard), shard, "train", index, str(target), decides)
        for index, shard in enumerate(shards)
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_kills_change_nothing(tmp_path: Path) -> None:
    manifest = publish_set(tmp_path, count=2 * SHARDS - 2, rows_per_shard=2)
    (tmp_path / "boxes.jsonl").write_text(
        "".join(
            json.dumps({"id": f"r{number}", "boxes": [[1, 1, 9, 9]], "scores": [0.5]}) + "\n" for number in range(9)
        )
    )
    before = files_in(tmp_path / "set")

    def start(target: Path) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        arguments = [manifest.root, str(target), str(tmp_path / "boxes.jsonl")]
        return subprocess.Popen([sys.executable, "-c", PROPOSE, *arguments], env=env, stdout=subprocess.PIPE, text=True)

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).communicate()[0] == "0\n"
    chance = random.Random(4)
    codes = []
    for _ in range(KILLS):
        wanted, process = len(files_in(killed)) + chance.randint(1, 4), start(killed)
        while len(files_in(killed)) < wanted and process.poll() is None:
            time.sleep(chance.random() * 0.002)
        process.send_signal(signal.SIGKILL)
        codes.append(process.wait())  # on a slow machine many files come between two looks, and a later one may end
    assert codes[0] == -signal.SIGKILL
    done = sum(name.startswith("proposals/") for name in files_in(killed))

    assert start(killed).communicate()[0] == f"{done}\n"
    assert 0 < done <= SHARDS
    assert files_in(killed) == files_in(undisturbed)
    assert files_in(tmp_path / "set") == before


def test_another_source_other_limits_and_a_lost_shard_are_done_again(tmp_path: Path) -> None:
    manifest = publish_set(tmp_path, rows_per_shard=100)
    (portion,) = portions(manifest, tmp_path / "to", threshold=0.3)
    asked = Asked(Anywhere(), False, {})
    assert finished(portion) is None
    result = propose_shard(portion, asked)
    assert finished(portion) == result
    assert finished(replace(portion, decides={"threshold": 0.4})) is None
    Path(tmp_path / "to" / result["shard"]["path"]).unlink()
    assert finished(portion) is None


def test_a_shard_in_which_nothing_changes_keeps_its_bytes(tmp_path: Path) -> None:
    """One of text alone, in its own folder and in another; its bytes are those of whoever wrote it."""
    manifest = publish_set(tmp_path, rows_per_shard=1)
    before = files_in(tmp_path / "set")
    for target in (tmp_path / "set", tmp_path / "to"):
        results = {
            portion.shard.path: propose_shard(portion, Asked(Anywhere(), False, {}))
            for portion in portions(manifest, target)
        }
        same = [path for path, result in results.items() if result["shard"]["path"] == path]
        assert len(same) == 2  # the text, and the row of two pictures
        assert all((target / path).read_bytes() == before[path] for path in same)
    assert files_in(tmp_path / "set").items() >= before.items()


def test_a_shard_that_is_not_as_published_is_refused(tmp_path: Path) -> None:
    manifest = publish_set(tmp_path, rows_per_shard=100)
    (portion,) = portions(manifest, tmp_path / "to")
    file = Path(portion.source_uri.removeprefix("file://"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(DpnError, match=r"is not as it was published \(sha256 differs\); see `dpn data verify`"):
        propose_shard(portion, Asked(Anywhere(), False, {}))


def test_what_a_source_refuses_is_one_line(tmp_path: Path) -> None:
    manifest = publish_set(tmp_path, rows_per_shard=100)
    (portion,) = portions(manifest, tmp_path / "to")
    with pytest.raises(DpnError, match="record r[14] has no boxes; jittered boxes are made of the true ones"):
        propose_shard(portion, Asked(JitteredTruth(), False, {}))
    assert not (tmp_path / "to" / "proposals").exists()
