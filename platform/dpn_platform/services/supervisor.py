"""Brings the services up and takes them down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dpn_platform.config.errors import DpnError
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home, read_json_file, record_path, write_private
from dpn_platform.services.plan import Plan, load_credentials
from dpn_platform.services.ports import choose_ports
from dpn_platform.services.processes import ProcessRecord, is_running, log_tail, start_detached, stop
from dpn_platform.services.servers import SERVERS, Server

Progress = Callable[[str, str], None]
"""Called with a service's name and a few words, each time something happens to it."""

START_TIMEOUT_S = 240.0
_SETTLE_S = 10.0
_POLL_S = 0.3
_ATTEMPTS = 3


class _ExitedError(DpnError):
    """A server ended while it was being started."""

    def __init__(self, server: Server, record: ProcessRecord) -> None:
        super().__init__(f"{server.title} ended while starting: {log_tail(record.log)}; see {record.log}")
        self.service = server.name


def up(
    home: Path | str | None = None,
    on_progress: Progress | None = None,
    timeout_s: float = START_TIMEOUT_S,
    *,
    names: Collection[str] | None = None,
    is_temporary: bool = False,
) -> Endpoints:
    """Brings services up: running ones are kept, dead ones started again, sick ones replaced.

    Args:
        home: the state folder; default `DPN_HOME`, else `~/.dpn`.
        on_progress: told of every step.
        timeout_s: how long the slowest may take to become healthy.
        names: of the services; None: all.
        is_temporary: what has to be started ends with the last command that uses it (`session`); otherwise what runs
            is kept from now on.

    Raises:
        DpnError: a service ended or stayed silent; the line names its log.
    """
    place, report = Home.resolve(home), on_progress or _say_nothing
    place.prepare()
    with place.locked(on_wait=lambda: report("lock", f"another start or stop is at work in {place.path}; waiting")):
        servers = [server for server in SERVERS if names is None or server.name in names]
        plan = _bring_up_patiently(place, servers, report, timeout_s, is_temporary)
        endpoints = plan.endpoints()
        write_private(place.env_file, endpoints.shell())
    return endpoints


def down(
    home: Path | str | None = None, on_progress: Progress | None = None, *, only_temporary: bool = False
) -> list[str]:
    """Stops every service of this home, and what is left of dead ones.

    Args:
        home: the state folder.
        on_progress: told of every step.
        only_temporary: services that `up` was asked to keep stay.

    Returns:
        Names of the services of which something was running.
    """
    place, report = Home.resolve(home), on_progress or _say_nothing
    if not place.path.is_dir():
        return []
    stopped = []
    with place.locked(on_wait=lambda: report("lock", f"another start or stop is at work in {place.path}; waiting")):
        found = {server: ProcessRecord.load(record_path(place, server.name)) for server in SERVERS}
        known = {server: record for server, record in found.items() if record is not None}
        records = {server: record for server, record in known.items() if record.is_temporary or not only_temporary}
        counts = stop({record: server.stop_grace_s for server, record in records.items()})
        for (server, record), count in zip(records.items(), counts, strict=True):
            record_path(place, server.name).unlink(missing_ok=True)
            if count:
                stopped.append(server.name)
                report(server.name, f"stopped pid {record.pid} ({count} processes)")
        if records == known:
            place.env_file.unlink(missing_ok=True)
    return stopped


def _bring_up_patiently(
    place: Home, servers: Sequence[Server], report: Progress, timeout_s: float, is_temporary: bool
) -> Plan:
    """Tries again when a server ends while it starts.

    Somebody may have taken a port between our choice and the bind; and Ray gives up when one of its parts
    needs more than 15 s to start, which happens on a busy machine.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _bring_up(place, servers, report, timeout_s, is_temporary)
        except _ExitedError as error:
            report(error.service, "ended while starting")
    return _bring_up(place, servers, report, timeout_s, is_temporary)


def _bring_up(place: Home, servers: Sequence[Server], report: Progress, timeout_s: float, is_temporary: bool) -> Plan:
    records = {server.name: ProcessRecord.load(record_path(place, server.name)) for server in SERVERS}
    for server in SERVERS:
        record = records[server.name]
        if record is not None and not is_running(record):
            report(server.name, f"pid {record.pid} is gone; starting again")
            _discard(server, record, place)
            records[server.name] = None
    plan = _make_plan(place, records)
    starting = {}
    for server in servers:
        record = records[server.name]
        if record is not None and (reason := _reason_to_restart(server, record, plan, timeout_s)):
            report(server.name, f"pid {record.pid}: {reason}; starting again")
            _discard(server, record, place)
            record = None
        if record is not None and record.is_ready:
            report(server.name, f"running at {server.url(plan)} (pid {record.pid})")
            if record.is_temporary and not is_temporary:
                replace(record, is_temporary=False).save(record_path(place, server.name))
            continue
        report(server.name, "starting" if record is None else f"still starting (pid {record.pid})")
        starting[server] = record or _start(server, plan, is_temporary)
    _wait_until_healthy(starting, plan, report, timeout_s)
    return plan


def _make_plan(place: Home, records: dict[str, ProcessRecord | None]) -> Plan:
    """Ports of running servers stay; the others keep their earlier ones where those are still free."""
    saved = read_json_file(place.path / "ports.json")
    earlier = saved if isinstance(saved, dict) else {}
    running = [name for server in SERVERS if records[server.name] for name in server.port_names]
    ports = {name: earlier[name] for name in running if name in earlier}
    missing = [name for server in SERVERS for name in server.port_names if name not in ports]
    ports.update(choose_ports(missing, earlier, taken=ports.values()))
    write_private(place.path / "ports.json", json.dumps(ports, indent=2))
    return Plan(place, ports, *load_credentials(place))


def _reason_to_restart(server: Server, record: ProcessRecord, plan: Plan, timeout_s: float) -> str | None:
    if record.setup != plan.setup_digest(server.port_names):
        return "was started with other addresses or credentials"
    if not record.is_ready:
        return f"has been starting for {record.age_s:.0f} s" if record.age_s > timeout_s else None
    deadline = time.monotonic() + _SETTLE_S
    while (problem := server.problem(plan)) is not None and is_running(record) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return problem


def _start(server: Server, plan: Plan, is_temporary: bool) -> ProcessRecord:
    server.before_start(plan)
    record = start_detached(
        server.name,
        server.command(plan),
        server.env(plan),
        folder=plan.home.path / server.name,
        log=plan.home.log(server.name),
        setup=plan.setup_digest(server.port_names),
    )
    record = replace(record, is_temporary=is_temporary)
    record.save(record_path(plan.home, server.name))
    return record


def _wait_until_healthy(starting: dict[Server, ProcessRecord], plan: Plan, report: Progress, timeout_s: float) -> None:
    began = time.monotonic()
    while starting:
        for server, record in list(starting.items()):
            if not is_running(record):
                raise _ExitedError(server, record)
            problem = server.problem(plan)
            if problem is None:
                server.once_healthy(plan)
                replace(record, is_ready=True).save(record_path(plan.home, server.name))
                del starting[server]
                report(server.name, f"up at {server.url(plan)} after {time.monotonic() - began:.0f} s")
            elif time.monotonic() - began > timeout_s:
                what = f"{server.title} is not ready after {timeout_s:.0f} s: {problem}"
                raise DpnError(f"{what}; see {record.log}, ending: {log_tail(record.log)}")
        time.sleep(_POLL_S if starting else 0)


def _discard(server: Server, record: ProcessRecord, place: Home) -> None:
    stop({record: server.stop_grace_s})
    record_path(place, server.name).unlink(missing_ok=True)


def _say_nothing(service: str, message: str) -> None:
    pass
