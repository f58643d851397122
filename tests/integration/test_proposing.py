"""`dpn data propose` on real Ray and S3: a detector beside a set, a file that names pictures, refusals, resume."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_model.objects.record import ObjectRecord
from dpn_platform import storage
from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.job import ProposeOptions, propose
from dpn_platform.data.proposing.places import find_place
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.stream import split_dataset
from dpn_platform.services.ray_client import init_ray
from tests.data.proposing.published_set import lines, publish_set
from tests.model.proposals.tiny_detectors import save_detector

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

BASE = f"s3://dpn/test-proposing-{uuid.uuid4().hex[:8]}"
COUNT = 10


@pytest.fixture(scope="module")
def local_set(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """On disk, in shards of three rows."""
    init_ray()
    storage.ensure_bucket(BASE)
    return publish_set(tmp_path_factory.mktemp("proposing"), count=COUNT, rows_per_shard=3)


@pytest.fixture(scope="module")
def detector(local_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random one in the bucket."""
    folder = save_detector(tmp_path_factory.mktemp("detector"), "rt_detr")
    storage.upload_folder(folder, f"{BASE}/detector")
    return f"{BASE}/detector"


def in_bucket(manifest: Manifest, name: str) -> Manifest:
    """A copy of the set in a folder of its own."""
    storage.upload_folder(manifest.root.removeprefix("file://"), f"{BASE}/{name}")
    return load_manifest(f"{BASE}/{name}")


def proposed(manifest: Manifest) -> dict[str, ObjectRecord]:
    rows = split_dataset(manifest, "train").take_all()
    return {row["id"]: ObjectRecord.of_json(row["objects"]) for row in rows if row["objects"] is not None}


def test_a_detector_makes_a_new_version_and_leaves_the_old_one(local_set: Manifest, detector: str) -> None:
    before = in_bucket(local_set, "versions")
    seen: list[tuple[int, int]] = []
    notes: list[str] = []

    done = propose(
        before,
        find_place(detector),
        options=ProposeOptions(threshold=0.0, nms=0.9),
        on_progress=lambda *rows: seen.append(rows),
        on_note=notes.append,
    )

    now = load_manifest(before.root)
    assert now == done.manifest
    assert now.fingerprint != before.fingerprint
    assert load_manifest(done.before) == before
    assert verify(now).problems == verify(before).problems == []
    assert (seen[-1], notes) == ((COUNT + 2, COUNT + 2), [])
    assert now.splits["train"].objects == COUNT
    assert now.proposals == {
        "kind": "detector",
        "place": detector,
        "threshold": 0.0,
        "nms": 0.9,
        "added_to": before.fingerprint,
    }
    found = proposed(now)
    assert set(found) == {f"r{number}" for number in range(COUNT)}
    assert all(one.proposed is not None and len(one.proposed[0]) > 0 for one in found.values())
    facts = done.tallies["train"].facts()
    assert (facts["rows"], facts["rows_without"], facts["passed_over"]) == (COUNT, 0, 1)

    # Done once more, nothing is left to do; where a result is lost, its shard alone is.
    again = propose(before, find_place(detector), options=ProposeOptions(0.0, 0.9), on_note=notes.append)
    assert again.manifest.fingerprint == now.fingerprint
    assert notes == ["4 of 4 shards were finished by an earlier run"]
    storage.delete_object(storage.list_files(f"{before.root}/proposals")[0])
    propose(before, find_place(detector), options=ProposeOptions(0.0, 0.9), on_note=notes.append)
    assert notes[1:] == ["3 of 4 shards were finished by an earlier run"]


@pytest.mark.long
def test_a_file_that_names_pictures_makes_a_set_elsewhere(
    local_set: Manifest, tmp_path: Path, run_dpn: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = tmp_path / "boxes.jsonl"
    file.write_text(lines(COUNT, key="image", step=2))

    done = run_dpn("data", "propose", local_set.root, "--with", str(file), "--to", f"{BASE}/elsewhere", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    # r0, r3, r6, r9 have two true boxes each, r2, r5, r8 one; those with an even number found their first.
    assert document["proposals"]["train"] == {
        "rows": COUNT,
        "rows_without": COUNT // 2,
        "mean_boxes": 1.0,
        "median_boxes": 1.0,
        "true_boxes": 11,
        "recall_50": pytest.approx(4 / 11, abs=1e-4),
        "recall_50_95": pytest.approx(4 / 11, abs=1e-4),
        "passed_over": 1,
    }
    assert (document["uri"], document["added"]["kind"]) == (f"{BASE}/elsewhere", "files")
    there = load_manifest(f"{BASE}/elsewhere")
    assert verify(there).problems == []
    found = proposed(there)
    counts = [len(found[f"r{number}"].proposed[1]) for number in range(4)]  # type: ignore[index]
    assert counts == [2, 0, 2, 0]
    assert load_manifest(local_set.root) == local_set
    assert proposed(local_set).keys() == {f"r{number}" for number in range(COUNT) if number % 3 != 1}


def test_refusals_publish_nothing(local_set: Manifest, tmp_path: Path) -> None:
    target = f"{BASE}/refused"
    with pytest.raises(DpnError, match="has no boxes; jittered boxes are made of the true ones"):
        propose(local_set, find_place("jitter"), target)
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "x", "boxes": [], "scores": []}\n')
    with pytest.raises(DpnError, match="has no proposals for any of the 10 rows with a picture; its lines name"):
        propose(local_set, find_place(str(other)), target)
    other.write_text('{"id": "r0", "boxes": [[0, 0, 100, 9]], "scores": [0.5]}\n')
    with pytest.raises(DpnError, match=r"other.jsonl:1: boxes\[0\] = .* is outside the picture of 64 x 48"):
        propose(local_set, find_place(str(other)), target)
    with pytest.raises(DpnError, match="nms is 0; allowed"):
        propose(local_set, find_place(str(other)), target, options=ProposeOptions(nms=0))
    with pytest.raises(DpnError, match="there is no bucket"):
        propose(local_set, find_place(str(other)), f"s3://absent-{uuid.uuid4().hex[:8]}/x")
    with pytest.raises(DpnError, match="no data set is published|holds shards but no manifest"):
        load_manifest(target)
