"""Shared by the infra tests: the documents of infra/, parsed, and our compact schemas of what they may hold.

The schemas name only the fields that are used here, and refuse every other one: a misspelt field is an error
although the API server, or compose, might silently drop it. `ray up` needs none, Ray ships its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SCHEMAS = Path(__file__).parent / "schemas"

RAYJOB = "kuberay/rayjob-demo-sweep.yaml"
RAYCRONJOB = "schedules/raycronjob.yaml"
CRONJOB = "schedules/cronjob.yaml"
RAY_UP = "ray-up/cluster.yaml"
COMPOSE = "compose/docker-compose.yaml"


@pytest.fixture(scope="session")
def infra():
    """A document of infra/ by its path there."""
    return lambda name: yaml.safe_load((INFRA / name).read_text())


@pytest.fixture(scope="session")
def problems():
    """What is wrong with a document: `problems(document, schema name) -> list of one-line texts`."""
    registry = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}

    def check(document: Any, schema: str) -> list[str]:
        # Pods and RayJobs occur in several schemas: each gets its copy, so that references stay inside one document.
        whole = {**registry[f"{schema}.json"], "$defs": registry["definitions.json"]["$defs"]}
        jsonschema.Draft202012Validator.check_schema(whole)
        found = jsonschema.Draft202012Validator(whole).iter_errors(document)
        return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in found]

    return check


@pytest.fixture(scope="session")
def ray_job_specs(infra):
    """The specs of both RayJobs, the single one and the scheduled one."""
    return {RAYJOB: infra(RAYJOB)["spec"], RAYCRONJOB: infra(RAYCRONJOB)["spec"]["jobTemplate"]}


@pytest.fixture(scope="session")
def pods(infra, ray_job_specs):
    """Every pod spec of infra/: name -> spec."""
    found = {f"{CRONJOB}: submit": infra(CRONJOB)["spec"]["jobTemplate"]["spec"]["template"]["spec"]}
    for path, spec in ray_job_specs.items():
        cluster = spec["rayClusterSpec"]
        found[f"{path}: head"] = cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster["workerGroupSpecs"]:
            found[f"{path}: {group['groupName']}"] = group["template"]["spec"]
    return found


@pytest.fixture(scope="session")
def installed_ray():
    """The Ray everything must be equal to."""
    return ray.__version__


@pytest.fixture(scope="session")
def scalars():
    """Every value of a document that is no list or mapping: `scalars(document) -> (dotted path, value), ...`."""

    def walk(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, (*path, str(key)))
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from walk(value, (*path, str(index)))
        else:
            yield ".".join(path), node

    return walk
