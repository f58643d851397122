"""One driver per study: a lease in storage with its owner and heartbeat, taken over when the owner is gone.

A lease is an object with a number; to take over is to create the next number, which exactly one of several drivers
can do. The owner renews its object every few seconds and learns there, too, when somebody has taken over.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import DamagedObjectError, create_bytes, exists, list_files, read_json, write_json

HEARTBEAT_S = 5.0
STALE_S = 30.0


@dataclass(frozen=True)
class Holder:
    """Who runs a study.

    Attributes:
        pid_started: when the process started: a later process may have the same pid.
        beat: Unix time of the last heartbeat.
        released: it ended in order.
        job_id, node_id: of its Ray driver, so that a successor can wait for its actors to end.
    """

    host: str
    pid: int
    pid_started: float
    beat: float
    released: bool = False
    job_id: str = ""
    node_id: str = ""

    @classmethod
    def this_process(cls, job_id: str = "", node_id: str = "") -> Holder:
        """The holder that this process is."""
        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, process.create_time(), time.time(), False, job_id, node_id)

    def is_gone(self, now: float) -> bool:
        """Whether the study is free: released, its process dead (on this host), or silent for too long."""
        return self.released or self._is_dead() or now - self.beat > STALE_S

    def _is_dead(self) -> bool:
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.pid_started) < 1.0
            return not is_same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def latest_holder(uri: str) -> Holder | None:
    """Who holds a study's lease, or held it last; None where nobody ever did.

    Args:
        uri: folder of the study's leases.
    """
    latest = _latest(uri)
    return None if latest is None else holder_at(latest)


def holder_at(uri: str) -> Holder:
    """The holder that a lease names.

    Raises:
        DamagedObjectError: it is none.
    """
    try:
        return Holder(**read_json(uri))
    except TypeError as error:
        raise DamagedObjectError(f"{uri}: not a lease of this version: {error}") from None


def _latest(uri: str) -> str | None:
    held = list_files(uri, ".json", recursive=False)
    return held[-1] if held else None


class Lease:
    """Context manager: holds the study's lease inside.

    Args:
        uri: folder of the study's leases.
        holder: this process.
        on_lost: called, from the heartbeat's thread, once somebody else has taken over.

    Attributes:
        predecessor: who held it before, None for the first.

    Raises:
        DpnError: another driver is running the study.
    """

    def __init__(self, uri: str, holder: Holder, on_lost: Callable[[], None]) -> None:
        self.uri = uri
        self.predecessor: Holder | None = None
        self._holder = holder
        self._on_lost = on_lost
        self._number = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        latest = _latest(self.uri)
        if latest is not None:
            self.predecessor = holder_at(latest)
            self._number = int(latest.rpartition("/")[2].removesuffix(".json")) + 1
            if not self.predecessor.is_gone(time.time()):
                raise self._refusal(self.predecessor)
        if not create_bytes(self._object(self._number), json.dumps(asdict(self._holder)).encode()):
            raise self._refusal(holder_at(self._object(self._number)))
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._ended.set()
        self._thread.join()
        write_json(self._object(self._number), asdict(replace(self._holder, beat=time.time(), released=True)))

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                if exists(self._object(self._number + 1)):
                    self._on_lost()
                    return
                write_json(self._object(self._number), asdict(replace(self._holder, beat=time.time())))
            except DpnError:
                continue  # storage is away for a moment: whoever could take over needs it as well

    def _object(self, number: int) -> str:
        return f"{self.uri}/{number:06d}.json"

    def _refusal(self, other: Holder) -> DpnError:
        age = max(0.0, time.time() - other.beat)
        return DpnError(
            f"{self.uri.rpartition('/')[0]} is being run by process {other.pid} on {other.host} "
            f"(last sign of life {age:.0f} s ago); stop it first, or wait for it"
        )
