"""The real services: reachable, closed to others, silent about secrets."""

from __future__ import annotations

import ipaddress
import json
import os
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
from dpn_platform.services.processes import ProcessRecord, leftovers
from dpn_platform.services.ray_client import init_ray
from dpn_platform.services.servers import SERVERS

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.usefixtures("services")]

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


def test_no_credential_in_any_log(services: embedded.Endpoints) -> None:
    token = Path(services.ray_token_path).read_text().strip()
    secrets = [secret.encode() for secret in (services.s3_secret_key, services.s3_access_key, token)]
    folders = [home() / "logs", Home(home()).ray_sessions]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_socket()]
    assert len(files) > 20
    assert [str(path) for path in files for secret in secrets if secret in path.read_bytes()] == []
