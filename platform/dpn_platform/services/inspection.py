"""Says truthfully how the services are: is each process ours and alive, and does it answer."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.plan import Plan, load_plan
from dpn_platform.services.processes import MARK_VARIABLE, ProcessRecord, is_running, leftovers
from dpn_platform.services.servers import SERVERS, Server


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is. `detail` says why it is not up; `url` is None unless it is running."""

    name: str
    state: Literal["up", "down", "unhealthy"]
    pid: int | None
    url: str | None
    log: str
    detail: str


@dataclass(frozen=True)
class ServicesStatus:
    """How all services of one home are."""

    home: str
    services: tuple[ServiceStatus, ...]

    @property
    def state(self) -> Literal["up", "down", "partial"]:
        """`up` or `down` when all are, else `partial`."""
        states = {service.state for service in self.services}
        return "up" if states == {"up"} else "down" if states == {"down"} else "partial"

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"home": self.home, "state": self.state, "services": [asdict(service) for service in self.services]}


def status(home: Path | str | None = None) -> ServicesStatus:
    """Looks at every service: is its process ours and alive, and does it answer."""
    place = Home.resolve(home)
    plan = load_plan(place)
    return ServicesStatus(str(place.path), tuple(_status_of(server, place, plan) for server in SERVERS))


def running(home: Path | str | None = None) -> set[str]:
    """Names of this home's services whose processes run."""
    place = Home.resolve(home)
    records = [ProcessRecord.load(record_path(place, server.name)) for server in SERVERS]
    return {record.service for record in records if record is not None and is_running(record)}


def endpoints(home: Path | str | None = None, needs: Collection[str] | None = None) -> Endpoints | None:
    """Addresses of this home's services, or None unless the processes of those that are needed (all of them) run."""
    wanted = {server.name for server in SERVERS} if needs is None else set(needs)
    if not wanted <= running(home):
        return None
    plan = load_plan(Home.resolve(home))
    return plan.endpoints() if plan else None


def homes() -> dict[str, dict[str, int]]:
    """Every state folder of this user of which something runs: processes per service.

    Found by the mark that each service's processes carry, in whichever folder they were started.
    """
    found: dict[str, dict[str, int]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK_VARIABLE):
                folder = Path(process.cwd().removesuffix(" (deleted)"))
                if folder.name in {server.name for server in SERVERS}:
                    services = found.setdefault(str(folder.parent), {})
                    services[folder.name] = services.get(folder.name, 0) + 1
    return found


def _status_of(server: Server, place: Home, plan: Plan | None) -> ServiceStatus:
    log = str(place.log(server.name))
    record = ProcessRecord.load(record_path(place, server.name))
    if record is None or plan is None:
        return ServiceStatus(server.name, "down", None, None, log, "not started")
    if not is_running(record):
        orphans = len(leftovers(record))
        left = f", {orphans} of its processes remain (`dpn up` or `dpn down` ends them)" if orphans else ""
        return ServiceStatus(server.name, "down", None, None, log, f"pid {record.pid} is gone{left}; log {log}")
    problem = server.problem(plan)
    detail = f"pid {record.pid} runs, but {problem}; log {log}" if problem else ""
    state: Literal["up", "unhealthy"] = "unhealthy" if problem else "up"
    return ServiceStatus(server.name, state, record.pid, server.url(plan), log, detail)
