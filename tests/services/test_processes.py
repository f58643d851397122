"""Processes: detached, recognised, stopped with everything that came from them, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.services.processes import ProcessRecord, is_running, leftovers, log_tail, start_detached, stop

Register = Callable[[ProcessRecord], ProcessRecord]

# A parent with one ordinary child, and one in a session of its own that ignores SIGTERM.
FAMILY = """
import signal, subprocess, sys, time
sleep = "import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", sleep])
stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleep
subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


def start(tmp_path: Path, script: str) -> ProcessRecord:
    return start_detached(
        "test",
        [sys.executable, "-c", script],
        dict(os.environ),
        folder=tmp_path / "work",
        log=tmp_path / "test.log",
        setup="s",
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_started_process_leads_its_own_session_in_its_folder_and_logs(tmp_path: Path, started: Register) -> None:
    script = "import os; print('at', os.getcwd(), flush=True); import time; time.sleep(600)"
    record = started(start(tmp_path, script))
    wait_for(lambda: "at " in log_tail(record.log))
    assert log_tail(record.log) == f"at {tmp_path / 'work'}"
    assert os.getsid(record.pid) == record.pid != os.getsid(0)
    assert (tmp_path / "test.log").stat().st_mode & 0o077 == 0
    assert is_running(record)


def test_stop_ends_the_whole_family(tmp_path: Path, started: Register) -> None:
    record = started(start(tmp_path, FAMILY))
    wait_for(lambda: "ready" in log_tail(record.log))
    wait_for(lambda: len(leftovers(record)) == 3)
    family = leftovers(record)
    assert stop({record: 2.0}) == [3]
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
    assert stop({record: 2.0}) == [0]


def test_orphans_of_a_killed_service_are_found_and_ended(tmp_path: Path, started: Register) -> None:
    record = started(start(tmp_path, FAMILY))
    wait_for(lambda: len(leftovers(record)) == 3)
    os.kill(record.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(record))
    assert len(leftovers(record)) == 2
    stop({record: 0.5})
    assert leftovers(record) == []


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        try:
            record = ProcessRecord("test", other.pid, mark="another mark", setup="s", log=str(tmp_path / "log"))
            assert not is_running(record)
            assert stop({record: 0.2}) == [0]
            assert other.poll() is None
        finally:
            other.kill()


def test_process_that_hides_its_mark_is_still_ours(tmp_path: Path, started: Register) -> None:
    record = start(tmp_path, "import time; time.sleep(600)")
    hidden = started(replace(record, mark="as if overwritten"))
    try:
        assert is_running(hidden)
        assert stop({hidden: 2.0}) == [1]
        assert not is_running(record)
    finally:
        stop({record: 0.1})


def test_record_survives_the_disk_and_a_broken_one_counts_as_none(tmp_path: Path) -> None:
    record = ProcessRecord("test", 1, "m", "s", "log", 2.5)
    record.save(tmp_path / "r.json")
    assert ProcessRecord.load(tmp_path / "r.json") == record
    (tmp_path / "r.json").write_text('{"pid": 1}')
    assert ProcessRecord.load(tmp_path / "r.json") is None
    assert ProcessRecord.load(tmp_path / "absent.json") is None


def test_log_is_appended_and_a_huge_one_is_put_aside(tmp_path: Path, started: Register) -> None:
    log = tmp_path / "test.log"
    log.write_text("earlier\n")
    record = started(start(tmp_path, "print('later')"))
    wait_for(lambda: not is_running(record))
    first, heading, last = log.read_text().splitlines()
    assert (first, last) == ("earlier", "later")
    assert heading.startswith("=== started 20")
    assert log_tail(log) == "later"
    with log.open("ab") as handle:
        handle.truncate(21 * 2**20)
    record = started(start(tmp_path, "print('fresh')"))
    wait_for(lambda: not is_running(record))
    assert log_tail(log) == "fresh"
    assert log.stat().st_size < 100
    assert log.with_suffix(".log.1").exists()


def test_program_that_is_not_there_shows_in_the_log(tmp_path: Path, started: Register) -> None:
    record = started(
        start_detached("test", ["/absent/program"], {}, folder=tmp_path, log=tmp_path / "test.log", setup="s")
    )
    wait_for(lambda: not is_running(record))
    assert "/absent/program" in log_tail(record.log)


def test_log_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="test: cannot write its log"):
        start_detached("test", ["true"], {}, folder=tmp_path, log=tmp_path / "absent" / "test.log", setup="s")
