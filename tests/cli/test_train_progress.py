"""The text beside the bar of `dpn train`: what a line holds, and a time left that follows the pace."""

import pytest

from dpn_platform.cli import console
from dpn_platform.cli.train_progress import TrainProgress, duration, short

LINE = {
    "train/loss": 1.2345,
    "router/keep_ratio": 0.42,
    "train/samples_per_second": 31.25,
    "train/tokens_per_second": 2412.0,
    "train/mfu": 0.417,
    "train/data_wait_fraction": 0.012,
}
TEXT = "loss 1.234, keeps 42%, 31.2 samples/s, 2.41k tokens/s, MFU 42%, data wait 1%"


@pytest.fixture
def shown():
    return []


@pytest.fixture
def show(shown):
    """A bar of 100 steps, told the time with every line."""
    now = [0.0]
    progress = TrainProgress(lambda done, text: shown.append((done, text)), 100, clock=lambda: now[0])

    def at(seconds, step, line=LINE):
        now[0] = seconds
        progress({"step": step, **line})
        return shown[-1]

    return at


def test_a_line_is_told_in_one_text(show):
    assert show(0, 10) == (10, TEXT)
    assert show(20, 20) == (20, f"{TEXT}, 160 s left".replace("160 s", "3 min"))


def test_what_a_line_lacks_is_left_out(show):
    assert show(0, 10, {"train/loss": 2.0}) == (10, "loss 2.000")


def test_time_left_follows_the_pace_of_this_attempt_alone(show):
    for step in (10, 20, 30, 40):  # of earlier attempts: they come at once
        assert "left" not in show(0, step)[1]
    assert show(10, 50)[1].endswith("50 s left")
    assert show(25, 60)[1].endswith("50 s left")
    assert show(60, 100)[1].endswith("0 s left")


def test_numbers_are_short():
    assert [short(n) for n in (0.4219, 3, 99.94, 312.4, 2412, 1_234_567)] == [
        "0.422", "3", "99.9", "312", "2.41k", "1.23M"
    ]  # fmt: skip
    assert [duration(s) for s in (0.4, 89, 90, 3600, 6000)] == ["0 s", "89 s", "2 min", "60 min", "1 h 40 min"]


def test_a_piped_run_prints_whole_lines(capsys, monkeypatch):
    monkeypatch.setattr(console, "_PLAIN_INTERVAL_S", 0.0)
    with console.progress("training x", 100) as advance:
        TrainProgress(advance, 100, clock=lambda: 0.0)({"step": 10, **LINE})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["training x ...", f"10 of 100: {TEXT}"]
