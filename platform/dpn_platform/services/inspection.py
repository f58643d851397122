"""Says truthfully how the services are: is each process ours and alive, and does it answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.plan import Plan, load_plan
from dpn_platform.services.processes import ProcessRecord, is_running, leftovers
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


def endpoints(home: Path | str | None = None) -> Endpoints | None:
    """Addresses of this home's services, or None unless all their processes run."""
    place = Home.resolve(home)
    records = [ProcessRecord.load(record_path(place, server.name)) for server in SERVERS]
    if not all(record is not None and is_running(record) for record in records):
        return None
    plan = load_plan(place)
    return plan.endpoints() if plan else None


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
