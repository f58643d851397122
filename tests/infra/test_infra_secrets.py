"""Nothing in infra/ carries a credential; what opens a port to others asks who is there."""

import re
import subprocess
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2] / "infra"
# `.env` is where a user is told to put the credentials; git ignores it.
FILES = sorted(path for path in INFRA.rglob("*") if path.is_file() and path.name != ".env")
DOCUMENTS = sorted(path.relative_to(INFRA).as_posix() for path in INFRA.rglob("*.yaml"))
SECRET_NAME = re.compile(r"(SECRET|PASSWORD|TOKEN|ACCESS_KEY|CREDENTIAL)", re.IGNORECASE)
# Forms of real ones: an AWS key id, a private key, a URL with a password, a long random word.
SECRET_FORM = re.compile(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^@\s]+@|\b[0-9a-f]{32,}\b")
FILE_NAMES_OF_SECRETS = {"/home/ray/ray_auth_token", "~/.ray/auth_token"}


def test_every_document_is_looked_at():
    assert len(DOCUMENTS) == 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_looks_like_it_holds_a_secret(path):
    assert SECRET_FORM.search(path.read_text()) is None


def test_pods_take_every_secret_from_a_secret(pods):
    for where, pod in pods.items():
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if SECRET_NAME.search(variable["name"]):
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, f"{where}: {variable['name']}"


def test_no_value_of_a_secret_is_written_out(infra, scalars):
    """A setting whose name speaks of a secret holds a reference: a variable, a file's name, or nothing."""
    for document in DOCUMENTS:
        for path, value in scalars(infra(document)):
            name = path.rsplit(".", 1)[-1]
            if not SECRET_NAME.search(name) or not isinstance(value, str):
                continue
            assert value.startswith("${DPN_") or value in FILE_NAMES_OF_SECRETS, f"{document}: {path}"


def test_example_of_the_env_file_is_empty_and_the_real_one_ignored():
    lines = (INFRA / "compose/.env.example").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert settings == {"DPN_S3_ACCESS_KEY": "", "DPN_S3_SECRET_KEY": ""}
    if not (INFRA.parent / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "-C", INFRA, "check-ignore", "-q", "compose/.env"], check=False)
    assert done.returncode == 0


def test_no_runtime_env_carries_more_than_the_import_path(ray_job_specs):
    for spec in ray_job_specs.values():
        assert SECRET_NAME.search(spec["runtimeEnvYAML"]) is None


def test_containers_are_unprivileged(pods):
    for where, pod in pods.items():
        for container in pod["containers"]:
            wanted = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000}
            assert container["securityContext"] == wanted, where


def test_ray_never_binds_its_dashboard_to_all_interfaces(infra, scalars):
    """On Kubernetes the operator does, behind the token; nothing here may ask for it."""
    for document in DOCUMENTS:
        for path, value in scalars(infra(document)):
            if "dashboard-host" in path or "dashboard-host" in str(value):
                assert "--dashboard-host=127.0.0.1" in str(value), f"{document}: {path}"
