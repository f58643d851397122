"""The real services: reachable, closed to others, silent about secrets, mended when killed by hand."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import boto3
import mlflow
import psutil
import pytest
import ray
from botocore.exceptions import ClientError
from ray.job_submission import JobStatus, JobSubmissionClient

from dpn_platform import services as embedded
from dpn_platform import storage
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.processes import ProcessRecord, is_running, leftovers
from dpn_platform.services.ray_client import init_ray
from dpn_platform.services.servers import SERVERS

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("services_alone")]

_LISTEN = "0A"


def home() -> Path:
    """The state folder of the session's services (it holds S3's credentials, so it is where they started)."""
    return Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent


def record_of(name: str, folder: Path) -> ProcessRecord:
    record = ProcessRecord.load(record_path(Home(folder), name))
    assert record is not None
    return record


def listening_addresses(pids: Iterable[int]) -> Iterator[str]:
    """Local addresses of the processes' listening TCP sockets, from the kernel's own tables."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            target = os.readlink(descriptor) if descriptor.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                yield address_of(fields[1].partition(":")[0])


def address_of(text: str) -> str:
    """The kernel writes addresses as little-endian 32-bit words."""
    raw = bytes.fromhex(text)
    ordered = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ipaddress.ip_address(ordered)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    init_ray()
    yield
    ray.shutdown()


def test_all_services_are_up_and_tell_where(services: embedded.Endpoints) -> None:
    now = embedded.status(home())
    assert now.state == "up"
    assert [service.name for service in now.services] == ["s3", "mlflow", "ray"]
    assert now.services[1].url == services.mlflow_url
    assert all(Path(service.log).exists() for service in now.services)
    assert embedded.endpoints(home()) == services


@pytest.mark.usefixtures("cluster")
def test_nothing_listens_beyond_loopback() -> None:
    @ray.remote
    def worker_pid() -> int:
        return os.getpid()

    worker = ray.get(worker_pid.remote())
    family = {process.pid for server in SERVERS for process in leftovers(record_of(server.name, home()))}
    assert worker in family
    driver = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    addresses = list(listening_addresses(family | driver))
    assert len(addresses) > 15, "the tables were read"
    assert {address for address in addresses if not ipaddress.ip_address(address).is_loopback} == set()


def test_s3_takes_our_key_and_no_other(services: embedded.Endpoints) -> None:
    storage.write_bytes("s3://dpn/test-services/x", b"content")
    assert storage.read_bytes("s3://dpn/test-services/x") == b"content"
    keys = {"aws_access_key_id": services.s3_access_key, "aws_secret_access_key": "wrong"}
    stranger = boto3.client("s3", endpoint_url=services.s3_url, region_name="us-east-1", **keys)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_objects_v2(Bucket="dpn")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{services.s3_url}/dpn/test-services/x")


def test_no_port_serves_objects_without_credentials() -> None:
    ports = json.loads((home() / "ports.json").read_text())
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"http://127.0.0.1:{ports['s3_filer']}/buckets/dpn/test-services/x", timeout=5)


def test_mlflow_keeps_artifacts_in_s3(services: embedded.Endpoints) -> None:
    client = mlflow.MlflowClient(services.mlflow_url)
    run = client.create_run(client.create_experiment(f"test-services-{time.time_ns()}"))
    client.log_text(run.info.run_id, "text", "notes/a.txt")
    client.log_metric(run.info.run_id, "m", 1.5)
    assert client.get_run(run.info.run_id).data.metrics == {"m": 1.5}
    objects = storage.list_files("s3://dpn/mlflow", suffix=f"{run.info.run_id}/artifacts/notes/a.txt")
    assert len(objects) == 1
    assert storage.read_bytes(objects[0]) == b"text"


@pytest.mark.usefixtures("cluster")
def test_workers_import_our_code_and_reach_s3_without_credentials_in_the_job() -> None:
    @ray.remote
    def look() -> tuple[bytes, str]:
        import dpn_model
        from dpn_platform import storage

        return storage.read_bytes("s3://dpn/test-services/worker"), str(dpn_model.__file__)

    storage.write_bytes("s3://dpn/test-services/worker", b"seen")
    content, module = ray.get(look.remote())
    assert content == b"seen"
    assert module.endswith("dpn_model/__init__.py")
    runtime_env = str(ray.get_runtime_context().runtime_env)
    assert "PYTHONPATH" in runtime_env
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in runtime_env


def test_jobs_need_the_token_and_find_everything(services: embedded.Endpoints) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{services.ray_dashboard_url}/api/jobs/", timeout=10)
    script = (
        "from dpn_platform.services import connect; from dpn_platform.services.ray_client import init_ray; "
        "from dpn_platform import storage; import ray; connect(); init_ray(); "
        "storage.write_bytes('s3://dpn/test-services/job', b'done'); "
        "print('cpus', int(ray.cluster_resources()['CPU']))"
    )
    client = JobSubmissionClient(services.ray_dashboard_url)
    job = client.submit_job(entrypoint=f'python -c "{script}"')
    deadline = time.monotonic() + 120
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)
    logs = client.get_job_logs(job)
    assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs
    assert f"cpus {max(8, 4 * (os.cpu_count() or 1))}" in logs
    assert storage.read_bytes("s3://dpn/test-services/job") == b"done"


def test_killed_service_is_told_and_mended_at_the_same_address(services: embedded.Endpoints) -> None:
    pid = record_of("mlflow", home()).pid
    os.kill(pid, signal.SIGKILL)
    record = record_of("mlflow", home())
    while is_running(record):
        time.sleep(0.1)
    now = {service.name: service for service in embedded.status(home()).services}
    assert (now["mlflow"].state, now["s3"].state, now["ray"].state) == ("down", "up", "up")
    assert now["mlflow"].detail.startswith(f"pid {pid} is gone")
    ray_pid = record_of("ray", home()).pid
    assert embedded.up(home()) == services
    assert embedded.status(home()).state == "up"
    assert record_of("ray", home()).pid == ray_pid, "the others were left alone"


@pytest.mark.slow
def test_second_home_lives_beside_the_first_and_keeps_its_data(
    run_dpn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A long path with a space: sockets must move to a short one, commands must be quoted.
    other = tmp_path_factory.mktemp("a long name with spaces " * 4) / "second home"
    env = {"DPN_HOME": str(other), "AWS_ENDPOINT_URL": "", "RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": ""}
    try:
        started = json.loads(run_dpn("up", "--json", **env).stdout)
        assert started["state"] == "up"
        ports, ours = (json.loads((folder / "ports.json").read_text()).values() for folder in (other, home()))
        assert set(ports).isdisjoint(ours)
        write = "from dpn_platform import storage; storage.write_bytes('s3://dpn/kept', b'kept')"
        plan_env = read_env_file(other / "env.sh")
        assert run_python(write, plan_env) == ""
        s3 = record_of("s3", other)
        os.kill(s3.pid, signal.SIGKILL)
        socket_of_s3 = int(started["endpoints"]["s3_url"].rpartition(":")[2])
        wait_until_closed(socket_of_s3)
        assert json.loads(run_dpn("status", "--json", **env).stdout)["state"] == "partial"
        assert json.loads(run_dpn("up", "--json", **env).stdout)["endpoints"] == started["endpoints"]
        read = "from dpn_platform import storage; print(storage.read_bytes('s3://dpn/kept').decode())"
        assert run_python(read, plan_env).strip() == "kept"
        family = [process for server in SERVERS for process in leftovers(record_of(server.name, other))]
    finally:
        stopped = json.loads(run_dpn("down", "--json", **env).stdout)["stopped"]
        shutil.rmtree(Home(other).runtime, ignore_errors=True)
    assert stopped == ["s3", "mlflow", "ray"]
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert embedded.status(home()).state == "up", "the first home's services were left alone"


def test_no_credential_in_any_log(services: embedded.Endpoints) -> None:
    token = Path(services.ray_token_path).read_text().strip()
    secrets = [secret.encode() for secret in (services.s3_secret_key, services.s3_access_key, token)]
    folders = [home() / "logs", Home(home()).ray_sessions]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_socket()]
    assert len(files) > 20
    assert [str(path) for path in files for secret in secrets if secret in path.read_bytes()] == []


def read_env_file(path: Path) -> dict[str, str]:
    lines = path.read_text().replace("'", "").splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


def run_python(script: str, env: dict[str, str]) -> str:
    """Runs a few lines with the environment of a state folder."""
    code = f"import sys; sys.path[:0] = {[str(Path(embedded.__file__).parents[2])]!r}; {script}"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_closed(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"port {port} is still open")
