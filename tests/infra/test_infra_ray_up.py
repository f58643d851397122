"""infra/ray-up/cluster.yaml: accepted by Ray's own schema and checks, equal to our Ray, the token on every node."""

import copy
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
REMOTE_CHECKOUT = "/home/ray/dpn-lab"


@pytest.fixture(scope="module")
def cluster(infra):
    return infra("ray-up/cluster.yaml")


@pytest.fixture(scope="module")
def container_env(cluster):
    options = [option.removeprefix("-e ") for option in cluster["docker"]["run_options"] if option.startswith("-e ")]
    return dict(option.split("=", 1) for option in options)


def test_ray_accepts_it(cluster):
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_refuses_a_misspelt_field(cluster):
    wrong = prepare_config(copy.deepcopy(cluster))
    wrong["available_node_types"]["gpu_worker"]["min_wokers"] = 1
    with pytest.raises(jsonschema.ValidationError, match="min_wokers"):
        validate_config(wrong)


def test_images_carry_the_installed_ray_and_our_python(cluster, installed_ray):
    docker = cluster["docker"]
    assert docker["head_image"] == f"rayproject/ray:{installed_ray}-py311-cpu"
    assert docker["worker_image"] == f"rayproject/ray:{installed_ray}-py311-gpu"


def test_torch_is_the_tested_one(cluster):
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    pinned = next(requirement for requirement in development if requirement.startswith("torch=="))
    assert any(command.endswith(f" -c requirements.lock {pinned}") for command in cluster["setup_commands"])


def test_everything_else_is_the_locked(cluster):
    commands = cluster["setup_commands"]
    assert commands[0].endswith("pip install -q -c requirements.lock setuptools")
    assert commands[1].endswith(" --no-deps --no-build-isolation --use-pep517 -r requirements.lock")
    folders = {re.match(r"cd (\S+) && ", command)[1] for command in commands if "requirements.lock" in command}
    assert [(ROOT / folder.removeprefix(f"{REMOTE_CHECKOUT}/") / "requirements.lock").is_file() for folder in folders]
    assert all("--no-deps" in command or " -c requirements.lock " in command for command in commands)


def test_every_node_has_the_token_and_asks_for_it(cluster, container_env):
    assert container_env["RAY_AUTH_MODE"] == "token"
    assert container_env["RAY_AUTH_TOKEN_PATH"] in cluster["file_mounts"]
    head = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head


def test_every_node_can_reach_the_services_without_a_written_credential(cluster, container_env):
    # All three name the user's own services, so that the job does not look for the embedded ones; Ray sets RAY_ADDRESS.
    assert {"AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI"} <= set(container_env)
    assert cluster["provider"]["region"] == container_env["AWS_DEFAULT_REGION"]
    assert container_env["AWS_DEFAULT_REGION"] in container_env["AWS_ENDPOINT_URL"]
    for name, node in cluster["available_node_types"].items():
        assert "IamInstanceProfile" in node["node_config"], name


def test_head_takes_no_work(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    start = " ".join(cluster["head_start_ray_commands"])
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start


def test_gpus_are_bought_on_demand_and_as_spot(cluster):
    gpu = cluster["available_node_types"]["gpu_worker"]
    assert gpu["min_workers"] == 0
    assert gpu["resources"]["GPU"] == 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    workers = [node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert sum(node["max_workers"] for node in workers) <= cluster["max_workers"]


def test_checkout_is_copied_and_installed_where_it_lies(cluster):
    assert cluster["file_mounts"][REMOTE_CHECKOUT] == "."
    assert any(re.match(f"cd {REMOTE_CHECKOUT} && .*pip install .*-e \\.$", line) for line in cluster["setup_commands"])
    assert {".git", ".venv", ".dpn"} <= set(cluster["rsync_exclude"])


def test_ports_of_head_and_workers_agree(cluster):
    head = re.search(r"--port=(\d+)", " ".join(cluster["head_start_ray_commands"]))
    worker = re.search(r"--address=\$RAY_HEAD_IP:(\d+)", " ".join(cluster["worker_start_ray_commands"]))
    assert head is not None
    assert worker is not None
    assert head[1] == worker[1]
