"""The state folder: found, private, locked."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.services.home import Home, read_json_file, write_private


def test_home_is_argument_then_variable_then_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DPN_HOME", raising=False)
    assert Home.resolve().path == tmp_path / ".dpn", "one per user, whatever the working folder"
    monkeypatch.setenv("DPN_HOME", "/somewhere")
    assert Home.resolve().path == Path("/somewhere")
    assert Home.resolve(tmp_path).path == tmp_path


def test_prepared_folders_are_closed_to_others_and_ignored_by_git(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    for folder in (home.path, home.logs, home.runtime):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (home.path / ".gitignore").read_text() == "*\n"
    home.runtime.rmdir()


def test_prepare_says_why_a_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DpnError, match="file/home: cannot make the services' state folder"):
        Home(tmp_path / "file" / "home").prepare()


def test_unix_sockets_fit_however_long_the_home_is(tmp_path: Path) -> None:
    longest_of_ray = "/session_2026-12-31_23-59-59_999999_4194304/sockets/dash_MetricsHead"
    for path in (Path("/x/.dpn"), tmp_path / ("long" * 40), tmp_path / ("other" * 30)):
        assert len(f"{Home(path).ray_sessions}{longest_of_ray}") <= 107
    assert Home(tmp_path / ("long" * 40)).runtime != Home(tmp_path / ("other" * 30)).runtime
    assert Home(Path("/x/.dpn")).runtime == Path("/x/.dpn/run")


def test_private_file_is_private_and_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "a" / "secret", '{"x": 1}')
    assert stat.S_IMODE((tmp_path / "a" / "secret").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["secret"]
    assert read_json_file(tmp_path / "a" / "secret") == {"x": 1}
    (tmp_path / "cut").write_text('{"x":')
    assert read_json_file(tmp_path / "cut") is None
    assert read_json_file(tmp_path / "absent") is None


def test_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    waited, order = threading.Event(), []

    def second() -> None:
        with home.locked(on_wait=waited.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with home.locked():
        thread.start()
        assert waited.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_lock_that_is_never_released_ends_in_one_clear_line(tmp_path: Path) -> None:
    with Home(tmp_path).locked(), pytest.raises(DpnError, match="held the lock"), Home(tmp_path).locked(timeout_s=0.3):
        pass
