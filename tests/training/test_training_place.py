"""A run without a worker group: what is published, what is kept, where the next attempt begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpn_platform.storage import list_folders, write_bytes
from dpn_platform.training.place import RAYS_SNAPSHOT, OwnProcess, published_alone


def publish(place: OwnProcess, folder: Path, step: int) -> None:
    name = f"step_{step:08d}"
    place.publish(folder, name, {}, lambda: write_bytes(f"{place.run_uri}/{name}/state.json", b"{}"))
    place.wait()


def test_a_checkpoint_is_published_when_its_upload_has_ended(tmp_path: Path) -> None:
    place = OwnProcess(f"file://{tmp_path}/run", 2)
    assert place.latest() is None
    write_bytes(f"{place.run_uri}/step_00000099/state.json", b"half written")
    for step in (10, 20, 30):
        publish(place, tmp_path, step)
    assert published_alone(place.run_uri) == ["step_00000020", "step_00000030"]
    assert place.latest() == "step_00000030"
    assert f"{place.run_uri}/step_00000010" not in list_folders(place.run_uri)
    with place.fetched("step_00000030") as folder:
        assert (folder / "state.json").read_text() == "{}"


def test_what_an_upload_failed_with_reaches_who_waits(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("no space")

    place = OwnProcess(f"file://{tmp_path}/run", None)
    place.publish(tmp_path, "step_00000010", {}, fail)
    with pytest.raises(OSError, match="no space"):
        place.wait()
    assert place.latest() is None
    place.wait()


def test_the_later_checkpoint_counts_whoever_published_it(tmp_path: Path) -> None:
    place = OwnProcess(f"file://{tmp_path}/run", None)
    publish(place, tmp_path, 10)
    of_ray = {"latest_checkpoint_result": {"checkpoint_dir_name": "step_00000020", "metrics": {}}}
    (tmp_path / "run" / RAYS_SNAPSHOT).write_text(json.dumps(of_ray))
    assert place.latest() == "step_00000020"
    publish(place, tmp_path, 30)
    assert place.latest() == "step_00000030"
