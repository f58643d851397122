"""Up, down and status, with small web servers in place of the real ones."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.services import down, endpoints, status, up
from dpn_platform.services.home import Home, read_json_file


def states(home: Path) -> dict[str, str]:
    return {service.name: service.state for service in status(home).services}


def test_never_started_home_is_down_and_is_not_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    now = status(home)
    assert now.state == "down"
    assert {service.detail for service in now.services} == {"not started"}
    assert endpoints(home) is None
    assert down(home) == []
    assert not home.exists()


def test_up_keeps_running_ones_and_down_stops_all(fake_servers) -> None:
    events: list[tuple[str, str]] = []
    first = up(on_progress=lambda name, message: events.append((name, message)))
    assert states(fake_servers.home) == {"s3": "up", "web": "up"}
    assert fake_servers.healthy == ["s3", "web"] or fake_servers.healthy == ["web", "s3"]
    assert first.s3_url in str(events)
    pids = [fake_servers.record(name).pid for name in ("s3", "web")]
    assert up() == first == endpoints()
    assert [fake_servers.record(name).pid for name in ("s3", "web")] == pids
    assert Home(fake_servers.home).env_file.stat().st_mode & 0o077 == 0
    assert down() == ["s3", "web"]
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
    assert states(fake_servers.home) == {"s3": "down", "web": "down"}
    assert not Home(fake_servers.home).env_file.exists()
    assert down() == []
    assert up() == first, "addresses stay from start to start"


def test_killed_service_is_reported_and_mended(fake_servers) -> None:
    first = up()
    pid = fake_servers.record("web").pid
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    now = status()
    assert now.state == "partial"
    web = now.services[1]
    assert (web.state, web.pid, web.url) == ("down", None, None)
    assert web.detail.startswith(f"pid {pid} is gone")
    assert web.log in web.detail
    assert endpoints() is None
    events: list[str] = []
    assert up(on_progress=lambda name, message: events.append(f"{name} {message}")) == first
    assert f"web pid {pid} is gone; starting again" in events
    assert states(fake_servers.home) == {"s3": "up", "web": "up"}


def test_service_that_does_not_answer_is_unhealthy_and_replaced(fake_servers, monkeypatch) -> None:
    monkeypatch.setattr("dpn_platform.services.supervisor._SETTLE_S", 0.5)
    up()
    pid = fake_servers.record("web").pid
    os.kill(pid, signal.SIGSTOP)
    web = status().services[1]
    assert (web.state, web.pid) == ("unhealthy", pid)
    assert "does not answer" in web.detail
    up()
    assert fake_servers.record("web").pid != pid
    assert states(fake_servers.home) == {"s3": "up", "web": "up"}


def test_taken_port_moves_the_service_and_those_that_knew_it(fake_servers) -> None:
    first = up()
    web_pid = fake_servers.record("web").pid
    os.kill(fake_servers.record("s3").pid, signal.SIGKILL)
    time.sleep(0.3)
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", int(first.s3_url.rpartition(":")[2])))
        busy.listen()
        second = up()
    assert second.s3_url != first.s3_url
    assert second.mlflow_url == first.mlflow_url
    assert fake_servers.record("web").pid != web_pid, "it had been told the old S3 address"


def test_service_that_ends_at_once_is_one_line_with_its_log(fake_servers) -> None:
    fake_servers.commands["web"] = [sys.executable, "-c", "raise SystemExit('no licence for this')"]
    with pytest.raises(DpnError, match=r"WEB ended while starting: no licence for this; see .*/logs/web\.log") as error:
        up()
    assert "\n" not in str(error.value)


def test_port_lost_in_a_race_is_chosen_again(fake_servers) -> None:
    marker = fake_servers.home / "tried"
    script = f"""
import pathlib, sys
marker = pathlib.Path({str(marker)!r})
if not marker.exists():
    marker.touch()
    sys.exit("OSError: [Errno 98] Address already in use")
import time; time.sleep(600)
"""
    fake_servers.commands["web"] = [sys.executable, "-c", script]
    with pytest.raises(DpnError, match="WEB is not ready after 2 s"):  # the second try runs, though it serves nothing
        up(timeout_s=2)
    assert marker.exists()


def test_interrupted_start_is_waited_for_and_a_stuck_one_replaced(fake_servers) -> None:
    fake_servers.commands["web"] = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(DpnError, match="not ready"):
        up(timeout_s=1)
    slow = fake_servers.record("web")
    assert not slow.is_ready
    with pytest.raises(DpnError, match="not ready"):
        up(timeout_s=2.5)
    assert fake_servers.record("web") == slow, "it was still young"
    del fake_servers.commands["web"]
    events: list[str] = []
    up(on_progress=lambda name, message: events.append(message), timeout_s=3)
    assert fake_servers.record("web").is_ready
    assert any("has been starting for" in event for event in events)


def test_silent_service_ends_in_a_timeout_that_names_the_log(fake_servers) -> None:
    fake_servers.commands["web"] = [sys.executable, "-c", "print('thinking', flush=True); import time; time.sleep(600)"]
    with pytest.raises(DpnError, match=r"WEB is not ready after 2 s: .*see .*/web\.log, ending: thinking"):
        up(timeout_s=2)
    assert states(fake_servers.home)["web"] == "unhealthy"
    assert down() == ["s3", "web"]


def test_concurrent_starts_make_one_set_of_services(fake_servers) -> None:
    results = []
    threads = [threading.Thread(target=lambda: results.append(up())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
    port = read_json_file(fake_servers.home / "ports.json")["s3"]
    listeners = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
    assert listeners == [fake_servers.record("s3").pid]
