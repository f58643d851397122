"""The services of one command: only what it needs, ended with the last that uses them, kept after `dpn up`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dpn_platform.services import connection, homes, running, session, up


@pytest.fixture(autouse=True)
def environment(plain_environment: pytest.MonkeyPatch) -> None:
    plain_environment.setattr(connection, "_applied", {})
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        plain_environment.setenv(name, "")
        plain_environment.delenv(name)


def test_a_command_starts_what_it_needs_and_ends_it(fake_servers) -> None:
    told: list[tuple[str, str]] = []
    with session({"s3"}, on_progress=lambda name, message: told.append((name, message))):
        assert running() == {"s3"}
        with session({"s3"}):
            assert running() == {"s3"}
        assert running() == {"s3"}, "another command still used it"
    assert running() == set()
    assert {name for name, _ in told} == {"s3"}
    assert told[0][1] == "starting"
    assert told[-1][1].startswith("stopped pid")


def test_what_dpn_up_started_stays(fake_servers) -> None:
    up(names=["s3"])
    with session({"s3"}):
        pass
    assert running() == {"s3"}


def test_dpn_up_keeps_what_a_command_has_started(fake_servers) -> None:
    with session({"s3"}):
        pid = fake_servers.record("s3").pid
        up()
    assert running() == {"s3", "web"}
    assert fake_servers.record("s3").pid == pid


def test_what_an_interrupted_command_left_ends_with_the_next(fake_servers) -> None:
    up(names=["s3"], is_temporary=True)
    with session({"s3"}):
        pass
    assert running() == set()


def test_a_start_that_is_interrupted_leaves_nothing(fake_servers) -> None:
    def interrupt(name: str, message: str) -> None:
        if message.startswith("up at"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), session({"s3"}, on_progress=interrupt):
        pytest.fail("it was interrupted before")
    assert running() == set()


def test_the_end_is_not_disturbed_by_another_signal(fake_servers) -> None:
    def press_again(name: str, message: str) -> None:
        if message.startswith("stopped"):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), session({"s3"}, on_progress=press_again):
        raise KeyboardInterrupt
    assert running() == set()
    assert signal.getsignal(signal.SIGINT) == before


def test_the_user_s_own_services_need_none_of_ours(tmp_path: Path, plain_environment: pytest.MonkeyPatch) -> None:
    plain_environment.setenv("DPN_HOME", str(tmp_path / "home"))
    plain_environment.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    with session({"s3"}) as connected:
        assert connected.s3_url == "https://s3.example.org"
    assert not (tmp_path / "home").exists()


def test_forgotten_ones_are_found_in_whichever_folder(fake_servers) -> None:
    up()
    assert homes()[str(fake_servers.home)] == {"s3": 1, "web": 1}
