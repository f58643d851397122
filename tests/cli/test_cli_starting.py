"""Services of a verb: SIGTERM ends it as orderly as Ctrl-C, and leaves the process's own handler in place."""

from __future__ import annotations

import signal
from contextlib import nullcontext

import pytest

from dpn_platform.cli import starting


def test_sigterm_is_ctrl_c_while_services_are_used() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with starting._sigterm_is_ctrl_c() as heed:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray puts a handler of its own in place
        heed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("address", ["s3://b/train.json", "train=s3://b/train.json", "s3://b/dt=2026/train.json"])
def test_s3_is_needed_for_what_lies_on_it(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    asked: list[set[str]] = []
    monkeypatch.setattr("dpn_platform.services.session", lambda needs, **_: asked.append(needs) or nullcontext())
    with starting.services_for("file:///a", address, ray=False):
        pass
    assert asked == [{"s3"}]


def test_nothing_is_started_for_what_lies_on_this_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpn_platform.services.session", lambda *_, **__: pytest.fail("asked for services"))
    with starting.services_for("file:///a", "b", None, ray=False):
        pass
