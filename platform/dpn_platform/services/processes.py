"""Service processes: started detached, recognised by a mark of their own, stopped by recorded pid.

Each start puts a random mark into the process's environment, where its descendants inherit it. A recorded
pid counts as ours only while that process carries the mark or began when ours did, so a pid that the system
has given to somebody else is never signalled.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dpn_platform.config.errors import DpnError
from dpn_platform.services.home import read_json_file, write_private

MARK_VARIABLE = "DPN_SERVICE_MARK"
_LAST_WAIT_S = 3.0
_HEADING = "=== started "
_CLOCK_TOLERANCE_S = 1.5
_LOG_LIMIT_BYTES = 20 * 2**20


@dataclass(frozen=True)
class ProcessRecord:
    """What is remembered of a start.

    Attributes:
        pid: the service's main process, which leads its own session.
        mark: the random word in its environment.
        setup: digest of what it was started with; a service with an outdated one is restarted.
        log: its log file.
        began: when it began, in seconds since the epoch; 0 when it was over too soon to look.
        is_ready: whether it has been healthy once; before that it is still starting.
        is_temporary: a command started it for itself; it ends with the last command that uses it.
    """

    service: str
    pid: int
    mark: str
    setup: str
    log: str
    began: float = 0.0
    is_ready: bool = False
    is_temporary: bool = False

    @property
    def age_s(self) -> float:
        """Seconds since it began; 0 when that is not known."""
        return time.time() - self.began if self.began else 0.0

    def save(self, path: Path) -> None:
        """Writes the record; it holds no secret but is private like the rest."""
        write_private(path, json.dumps(asdict(self), indent=2))

    @staticmethod
    def load(path: Path) -> ProcessRecord | None:
        """The record, or None when there is none that can be read."""
        fields = read_json_file(path)
        try:
            return ProcessRecord(**fields) if isinstance(fields, dict) else None
        except TypeError:
            return None


def start_detached(
    service: str, command: Sequence[str], env: Mapping[str, str], *, folder: Path, log: Path, setup: str
) -> ProcessRecord:
    """Starts a server in a session of its own, so that neither Ctrl-C nor the caller's end reaches it.

    Raises:
        DpnError: the program cannot be started.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    _write_heading(log, service)
    mark = secrets.token_hex(16)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # posix_spawn cannot change the folder; sh does and is then replaced, so the pid stays the server's.
    arguments = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]
    try:
        pid = os.posix_spawn(arguments[0], arguments, {**env, MARK_VARIABLE: mark}, file_actions=actions, setsid=True)
    except OSError as error:
        raise DpnError(f"{service}: cannot start {command[0]} ({error.strerror})") from error
    try:
        began = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        began = 0.0
    return ProcessRecord(service, pid, mark, setup, str(log), began)


def is_running(record: ProcessRecord) -> bool:
    """Whether the recorded pid is still the process we started."""
    with suppress(ChildProcessError):  # reaps it when it is a dead child of this very process
        os.waitpid(record.pid, os.WNOHANG)
    with suppress(psutil.Error):
        process = psutil.Process(record.pid)
        if not _is_alive(process):
            return False
        # While a process replaces its program its environment reads as empty; and a clock that was set moves
        # the time at which it seems to have begun. Either proof is enough.
        began_then = abs(process.create_time() - record.began) < _CLOCK_TOLERANCE_S
        return began_then or _is_marked(record.pid, record.mark)
    return False


def leftovers(record: ProcessRecord) -> list[psutil.Process]:
    """Every living process that came from this start, the main one included.

    Three nets, because none holds alone: the mark in the environment (programs that rename themselves
    overwrite it), the session of the main process (jobs open their own) and the children of those.
    """
    everyone = list(psutil.process_iter())
    found = {process.pid: process for process in everyone if _is_marked(process.pid, record.mark)}
    with suppress(psutil.Error):
        if is_running(record):
            found[record.pid] = psutil.Process(record.pid)
    # The kernel gives a number to nobody else while a session bears it: one marked member proves the session ours.
    if any(_session_of(pid) == record.pid for pid in found):
        found.update((process.pid, process) for process in everyone if _session_of(process.pid) == record.pid)
    for process in list(found.values()):
        with suppress(psutil.Error):
            found.update((child.pid, child) for child in process.children(recursive=True))
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


def stop(graces_s: Mapping[ProcessRecord, float]) -> list[int]:
    """Ends services and all that came from them: SIGTERM to the main processes, then to the rest, then SIGKILL.

    Args:
        graces_s: what to stop, side by side, and how long each main process may take to end by itself and
            take its children along.

    Returns:
        Per record, how many processes there were.
    """
    records = list(graces_s)
    families = [leftovers(record) for record in records]
    mains = [psutil.Process(record.pid) for record in records if is_running(record)]
    _send(mains, signal.SIGTERM)
    began = time.monotonic()
    while any(time.monotonic() - began < grace_s and is_running(record) for record, grace_s in graces_s.items()):
        time.sleep(0.1)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        # Looked up again: a dying service may have started something after the first look.
        remaining = {process for family in families for process in family}
        remaining.update(process for record in records for process in leftovers(record))
        if sent == signal.SIGTERM:
            remaining.difference_update(mains)  # had theirs
        _send(list(remaining), sent)
        psutil.wait_procs(list(remaining), timeout=_LAST_WAIT_S)
    return [len(family) for family in families]


def log_tail(path: str | Path, lines: int = 3) -> str:
    """The last lines that the latest start wrote into a log, on one line."""
    with suppress(OSError):
        text = Path(path).read_text(errors="replace").rpartition(_HEADING)[2].partition("\n")[2]
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
    return ""


def _write_heading(log: Path, service: str) -> None:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise DpnError(f"{service}: cannot write its log {log} ({error.strerror})") from error
    with os.fdopen(descriptor, "a") as handle:
        handle.write(f"{_HEADING}{time.strftime('%Y-%m-%d %H:%M:%S')}\n")


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):  # gone meanwhile; psutil refuses when the pid has a new owner
            process.send_signal(number)


def _is_marked(pid: int, mark: str) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return _is_alive(process) and process.environ().get(MARK_VARIABLE) == mark
    return False


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None
