"""A pair of harmless servers that the supervisor runs in place of the real ones."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dpn_platform.services import inspection, servers, supervisor
from dpn_platform.services.health import answer_problem
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.plan import Plan
from dpn_platform.services.processes import ProcessRecord, leftovers, stop
from dpn_platform.services.servers import Server


@dataclass
class FakeServers:
    """Two web servers of the standard library; their folder is what they serve."""

    home: Path
    commands: dict[str, list[str]] = field(default_factory=dict)
    healthy: list[str] = field(default_factory=list)

    def build(self, name: str, ports: tuple[str, ...]) -> Server:
        def command(plan: Plan) -> list[str]:
            here = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(plan.ports[ports[0]])]
            return self.commands.get(name, here)

        return Server(
            name,
            name.upper(),
            ports,
            command,
            lambda plan: plan.base_env(),
            lambda plan: answer_problem(plan.url(ports[0])),
            stop_grace_s=2.0,
            once_healthy=lambda plan: self.healthy.append(name),
        )

    def record(self, name: str) -> ProcessRecord:
        record = ProcessRecord.load(record_path(Home(self.home), name))
        assert record is not None
        return record


@pytest.fixture
def fake_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServers:
    """Puts them in place of the real ones; ends what is left of them."""
    home = tmp_path / "home"
    monkeypatch.setenv("DPN_HOME", str(home))
    fake = FakeServers(home)
    pair = (fake.build("s3", servers.S3.port_names), fake.build("web", ("mlflow", *servers.RAY.port_names)))
    for module in (supervisor, inspection):
        monkeypatch.setattr(module, "SERVERS", pair)
    yield fake
    supervisor.down(home)
    shutil.rmtree(Home(home).runtime, ignore_errors=True)  # outside tmp_path, whose name is long


@pytest.fixture
def started() -> Callable[[ProcessRecord], ProcessRecord]:
    """Registers a process that must not outlive the test."""
    records: list[ProcessRecord] = []

    def register(record: ProcessRecord) -> ProcessRecord:
        records.append(record)
        return record

    yield register
    for record in records:
        if leftovers(record):
            stop({record: 0.1})


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no service."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_AUTH", "RAY_API", "RAY_JOB")):
            monkeypatch.delenv(name)
    return monkeypatch
