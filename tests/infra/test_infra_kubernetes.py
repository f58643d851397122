"""RayJob, RayCronJob and CronJob: of the right form, equal to our Ray, guarded, running what is in the checkout."""

import copy
import shlex
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from dpn_platform.config.load import load_config
from dpn_platform.services.job_client import JOB_PYTHONPATH

ROOT = Path(__file__).parents[2]
RAYJOB = "kuberay/rayjob-demo-sweep.yaml"
RAYCRONJOB = "schedules/raycronjob.yaml"
CRONJOB = "schedules/cronjob.yaml"
KINDS = {RAYJOB: "rayjob", RAYCRONJOB: "raycronjob", CRONJOB: "cronjob"}
CHECKOUT_IN_IMAGE = "/home/ray/dpn-lab"


def check_entrypoint(words):
    """The script and the config are in the checkout, and the overrides are accepted by the typed config."""
    assert words[0] == "python"
    assert (ROOT / words[1]).is_file()
    assert words[2] == "--config"
    config = load_config(ROOT / words[3], [word for word in words[4:] if not word.startswith("--")])
    assert config.sweep is not None
    assert (config.pipeline is not None) == (words[1] == "jobs/pipeline.py")
    return config


@pytest.mark.parametrize("path", KINDS)
def test_document_fits_its_schema(infra, problems, path):
    assert problems(infra(path), KINDS[path]) == []


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        (("entryPoint",), "python", "'entryPoint' was unexpected"),
        (("rayClusterSpec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
        (("rayClusterSpec", "headGroupSpec", "rayStartParams", "num-gpus"), 0, "0 is not of type 'string'"),
        (("activeDeadlineSeconds",), "4h", "'4h' is not of type 'integer'"),
    ],
)
def test_schema_refuses_common_mistakes(infra, problems, place, value, complaint):
    document = copy.deepcopy(infra(RAYJOB))
    node = document["spec"]
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    assert any(complaint in problem for problem in problems(document, "rayjob"))


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_ray_is_the_installed_one(ray_job_specs, installed_ray, path):
    assert ray_job_specs[path]["rayClusterSpec"]["rayVersion"] == installed_ray


def test_images_name_our_version_and_our_ray(pods, installed_ray):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for pod in pods.values() for container in pod["containers"]}
    assert images == {f"dpn-lab:{version}-ray{installed_ray}"}


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_dashboard_asks_for_the_token(ray_job_specs, path):
    cluster = ray_job_specs[path]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for pod in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        containers = pod["template"]["spec"]["containers"]
        names = {variable["name"] for container in containers for variable in container["env"]}
        # Either would take the place of what the operator sets.
        assert names.isdisjoint({"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"})


def test_scheduled_submission_brings_the_token(infra):
    container = infra(CRONJOB)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "auth_token"


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_head_takes_no_work_and_only_the_gpu_group_has_gpus(ray_job_specs, path):
    cluster = ray_job_specs[path]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    limits = {
        group["groupName"]: group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for group in cluster["workerGroupSpecs"]
    }
    assert {name for name, limit in limits.items() if "nvidia.com/gpu" in limit} == {"gpu"}
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_gpu_nodes_are_bought_only_when_asked_for(ray_job_specs, path):
    cluster = ray_job_specs[path]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert cluster["enableInTreeAutoscaling"] is True
    assert groups["gpu"]["minReplicas"] == 0
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups.values())


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_trials_at_a_time_fit_the_gpu_group(ray_job_specs, path):
    spec = ray_job_specs[path]
    config = check_entrypoint(shlex.split(spec["entrypoint"]))
    gpu = next(group for group in spec["rayClusterSpec"]["workerGroupSpecs"] if group["groupName"] == "gpu")
    assert config.train.use_gpu
    assert config.sweep.max_concurrent_trials * config.train.num_workers <= gpu["maxReplicas"]


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_cluster_is_gone_after_the_job(ray_job_specs, path):
    spec = ray_job_specs[path]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]


@pytest.mark.parametrize("path", [RAYJOB, RAYCRONJOB])
def test_job_runs_in_the_checkout_of_the_image(ray_job_specs, path):
    runtime_env = yaml.safe_load(ray_job_specs[path]["runtimeEnvYAML"])
    assert runtime_env == {"working_dir": CHECKOUT_IN_IMAGE, "env_vars": {"PYTHONPATH": JOB_PYTHONPATH}}
    assert f"WORKDIR {CHECKOUT_IN_IMAGE}\n" in (ROOT / "infra/images/Dockerfile").read_text()


def test_scheduled_submission_runs_the_same_sweep(infra):
    container = infra(CRONJOB)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    split = container["args"].index("--")
    check_entrypoint(container["args"][split + 1 :])
    assert container["workingDir"] == CHECKOUT_IN_IMAGE
    options = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"][:split])
    assert options["working-dir"] == "."
    assert yaml.safe_load(options["runtime-env-json"]) == {"env_vars": {"PYTHONPATH": JOB_PYTHONPATH}}


def test_schedule_runs_the_job_of_the_single_file(ray_job_specs):
    own = {"entrypoint", "backoffLimit"}
    slot, sweep = (
        {key: value for key, value in ray_job_specs[path].items() if key not in own} for path in (RAYCRONJOB, RAYJOB)
    )
    assert slot == sweep


def test_nightly_runs_cannot_overlap(infra, ray_job_specs):
    assert infra(CRONJOB)["spec"]["concurrencyPolicy"] == "Forbid"
    spec = ray_job_specs[RAYCRONJOB]
    minute, hour, *rest = infra(RAYCRONJOB)["spec"]["schedule"].split()
    assert minute.isdigit()
    assert hour.isdigit()
    assert rest == ["*", "*", "*"]
    longest = timedelta(seconds=spec["activeDeadlineSeconds"]) * (spec["backoffLimit"] + 1)
    assert longest < timedelta(days=1)
