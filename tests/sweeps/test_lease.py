"""The lease: one driver at a time, dead and silent ones are followed, a lost lease is noticed."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import psutil
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import list_files, read_json
from dpn_platform.sweeps import lease as lease_module
from dpn_platform.sweeps.lease import Holder, Lease


def never():
    raise AssertionError("the lease was lost")


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "study" / "lease")


def put(uri, number, holder):
    os.makedirs(uri, exist_ok=True)
    with open(f"{uri}/{number:06d}.json", "w") as file:
        json.dump(asdict(holder), file)


def test_two_drivers_cannot_hold_it(uri):
    expected = pytest.raises(DpnError, match=f"run by process {os.getpid()} on {socket.gethostname()}")
    with Lease(uri, Holder.this_process(), never), expected:
        Lease(uri, Holder.this_process(), never).__enter__()
    with Lease(uri, Holder.this_process(), never) as second:
        assert second.predecessor.released


def test_a_dead_process_is_followed_at_once(uri):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    holder = Holder(socket.gethostname(), process.pid, started, time.time(), job_id="01000000")
    put(uri, 3, holder)
    with pytest.raises(DpnError):
        Lease(uri, Holder.this_process(), never).__enter__()
    process.kill()
    process.wait()
    with Lease(uri, Holder.this_process(), never) as taken:
        assert taken.predecessor == holder
    assert [file.rpartition("/")[2] for file in list_files(uri)] == ["000003.json", "000004.json"]


def test_a_later_process_of_the_same_pid_is_not_the_holder(uri):
    put(uri, 0, replace(Holder.this_process(), pid_started=1.0))
    with Lease(uri, Holder.this_process(), never):
        pass


@pytest.mark.parametrize(("age_s", "is_free"), [(5.0, False), (31.0, True)])
def test_a_driver_on_another_host_is_judged_by_its_heartbeat(uri, age_s, is_free):
    put(uri, 0, Holder("elsewhere", 1, 0.0, time.time() - age_s))
    if not is_free:
        with pytest.raises(DpnError, match="on elsewhere"):
            Lease(uri, Holder.this_process(), never).__enter__()
        return
    with Lease(uri, Holder.this_process(), never):
        pass


def test_of_many_drivers_exactly_one_gets_it(uri):
    put(uri, 0, Holder("elsewhere", 1, 0.0, 0.0))
    entered, refused = [], []

    def contend():
        try:
            entered.append(Lease(uri, Holder.this_process(), never).__enter__())
        except DpnError:
            refused.append(1)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refused)) == (1, 7)
    entered[0].__exit__(None, None, None)


def test_it_beats_and_notices_a_successor(uri, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.05)
    lost = threading.Event()
    with Lease(uri, Holder.this_process(), lost.set):
        first = read_json(f"{uri}/000000.json")["beat"]
        deadline = time.monotonic() + 10
        while read_json(f"{uri}/000000.json")["beat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not lost.is_set()
        put(uri, 1, Holder("elsewhere", 1, 0.0, time.time()))
        assert lost.wait(10)
