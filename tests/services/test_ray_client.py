"""Joining a cluster: refused early and clearly, with the right code on the workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.services.ray_client import _runtime_env, init_ray


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "no Ray cluster"),
        ("127.0.0.1:9", "no Ray there"),
        ("127.0.0.1:port", "HOST:PORT is needed"),
        ("10.1.2.3:6379", "refused without authentication"),
    ],
)
def test_cluster_that_cannot_be_used_is_one_line(
    plain_environment: pytest.MonkeyPatch, address: str, message: str
) -> None:
    plain_environment.setattr("ray.is_initialized", lambda: False)
    plain_environment.setattr("ray.init", lambda **_: pytest.fail("must not be tried"))
    plain_environment.setenv("RAY_ADDRESS", address)
    with pytest.raises(DpnError, match=message):
        init_ray()


def test_workers_on_this_machine_import_from_this_checkout(
    plain_environment: pytest.MonkeyPatch, repo_root: Path
) -> None:
    env_vars = _runtime_env(True, {"X": "1"})["env_vars"]
    assert env_vars["X"] == "1"
    assert set(env_vars["PYTHONPATH"].split(":")) == {str(repo_root), str(repo_root / "platform")}


def test_workers_elsewhere_get_our_packages_uploaded(plain_environment: pytest.MonkeyPatch, repo_root: Path) -> None:
    runtime_env = _runtime_env(False, {})
    expected = {str(repo_root / "platform" / "dpn_platform"), str(repo_root / "dpn_model")}
    assert set(runtime_env["py_modules"]) == expected


def test_inside_a_job_its_own_settings_stay(plain_environment: pytest.MonkeyPatch) -> None:
    job = {"runtime_env": {"env_vars": {"PYTHONPATH": "platform:."}}}
    plain_environment.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert _runtime_env(True, {"PYTHONPATH": "other", "X": "1"}) == {"env_vars": {"X": "1"}}
