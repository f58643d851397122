"""Whole objects on disk: atomic writes, listing, folders, one-line errors. (On S3: tests/integration.)"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dpn_platform import storage
from dpn_platform.config.errors import DpnError


def test_write_then_read(tmp_path: Path) -> None:
    uri = storage.join_uri(tmp_path, "deep/er/x.bin")

    storage.write_bytes(uri, b"one")
    storage.write_bytes(uri, b"two")

    assert storage.read_bytes(uri) == b"two"
    assert storage.exists(uri)
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["x.bin"]  # no temporary file is left


def test_a_file_is_written_in_one_step(tmp_path: Path) -> None:
    uri, local = storage.join_uri(tmp_path, "deep/x.bin"), tmp_path / "local"
    local.write_bytes(b"x" * 3_000_000)
    storage.write_bytes(uri, b"older")

    storage.write_file(uri, local)

    assert storage.read_bytes(uri) == local.read_bytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.bin"]
    with pytest.raises(DpnError, match="cannot write file:///proc/x/y: its folder cannot be made"):
        storage.write_file("/proc/x/y", local)


def test_json_is_stable_and_keeps_unicode(tmp_path: Path) -> None:
    uri = storage.join_uri(tmp_path, "x.json")

    storage.write_json(uri, {"b": "é", "a": 1})

    assert storage.read_bytes(uri).decode() == '{\n  "a": 1,\n  "b": "é"\n}\n'
    assert storage.read_json(uri) == {"a": 1, "b": "é"}


def test_broken_json_names_the_object(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "x.json", b"{")

    with pytest.raises(DpnError, match="x.json: not valid JSON"):
        storage.read_json(tmp_path / "x.json")


def test_missing_object_names_the_uri(tmp_path: Path) -> None:
    with pytest.raises(storage.MissingObjectError, match=f"cannot read file://{tmp_path}/none: nothing is there"):
        storage.read_bytes(tmp_path / "none")
    assert not storage.exists(tmp_path / "none")


def test_only_one_of_many_creators_wins(tmp_path: Path) -> None:
    uri = storage.join_uri(tmp_path, "lease")

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: storage.create_bytes(uri, str(number).encode()), range(32)))

    assert won.count(True) == 1
    assert storage.read_bytes(uri) == str(won.index(True)).encode()


def test_listing_is_sorted_and_complete(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "sub/c.json", "a.txt"):
        storage.write_bytes(tmp_path / name, b"")

    assert storage.list_files(tmp_path, ".json") == [
        f"file://{tmp_path}/a.json",
        f"file://{tmp_path}/b.json",
        f"file://{tmp_path}/sub/c.json",
    ]
    assert len(storage.list_files(tmp_path, recursive=False)) == 3
    assert storage.list_files(tmp_path / "absent") == []


def test_folder_goes_up_and_comes_down(tmp_path: Path) -> None:
    (tmp_path / "from/sub").mkdir(parents=True)
    (tmp_path / "from/sub/x").write_bytes(b"x")
    (tmp_path / "from/y").write_bytes(b"y")

    storage.upload_folder(tmp_path / "from", storage.join_uri(tmp_path, "store"))
    storage.download_folder(storage.join_uri(tmp_path, "store"), tmp_path / "back")

    assert (tmp_path / "back/sub/x").read_bytes() == b"x"
    assert (tmp_path / "back/y").read_bytes() == b"y"


def test_absent_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="no such folder to upload"):
        storage.upload_folder(tmp_path / "absent", tmp_path / "store")
    with pytest.raises(storage.MissingObjectError, match="nothing there to download"):
        storage.download_folder(storage.join_uri(tmp_path, "absent"), tmp_path / "back")


def test_unreachable_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-me")

    with pytest.raises(DpnError, match=r"cannot create s3://dpn/x \(S3 at http://127.0.0.1:1\): ") as refusal:
        storage.create_bytes("s3://dpn/x", b"")

    assert "\n" not in str(refusal.value)
    assert "do-not-show-me" not in str(refusal.value)


def test_folders_are_listed_and_removed(tmp_path: Path) -> None:
    for name in ("step_2/a", "step_1/deep/b", "file"):
        storage.write_bytes(storage.join_uri(tmp_path, name), b"x")

    assert storage.list_folders(tmp_path) == [f"file://{tmp_path}/step_1", f"file://{tmp_path}/step_2"]
    storage.delete_folder(storage.join_uri(tmp_path, "step_1"))
    storage.delete_folder(storage.join_uri(tmp_path, "never"))
    assert storage.list_folders(tmp_path) == [f"file://{tmp_path}/step_2"]
    assert storage.list_folders(tmp_path / "never") == []
