"""Joins the Ray cluster of the environment, so that its workers can import our packages."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.services.endpoints import RAY_LOOPBACK_ENV
from dpn_platform.services.plan import python_path, source_roots
from dpn_platform.storage import PATIENCE_VARIABLE

_JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_REACH_TIMEOUT_S = 10.0
#: how long workers wait for a store that is away; what the environment says goes before
STORAGE_PATIENCE_S = "300"
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def init_ray(*, env_vars: Mapping[str, str] | None = None) -> None:
    """Connects to `RAY_ADDRESS`; does nothing when this process is connected already.

    Workers get our packages through PYTHONPATH on this machine, as uploaded modules on another. Credentials
    never travel: the nodes have them in their own environment.

    Args:
        env_vars: further variables for the workers (no secrets: Ray shows them to anyone who may see the job).

    Raises:
        DpnError: no cluster is named, it cannot be reached, or it would be used without authentication.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise DpnError("no Ray cluster: run `dpn up`, or set RAY_ADDRESS to the one to use")
    host = address.removeprefix("ray://").rpartition(":")[0]
    is_local = host in _LOOPBACK_HOSTS or address in ("auto", "local")
    if is_local and "ray" not in sys.modules:
        os.environ.update(RAY_LOOPBACK_ENV)  # read when ray is imported
    import ray

    if ray.is_initialized():
        return
    if address not in ("auto", "local"):
        _check_reachable(address, is_local)
    ray.init(
        address=address,
        runtime_env=_runtime_env(is_local, {**_patience(), **(env_vars or {})}),
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _patience() -> dict[str, str]:
    return {PATIENCE_VARIABLE: os.environ.get(PATIENCE_VARIABLE, STORAGE_PATIENCE_S)}


def _runtime_env(is_local: bool, env_vars: dict[str, str]) -> dict[str, Any]:
    if _JOB_CONFIG_VARIABLE in os.environ:
        # Inside a submitted job its runtime_env applies; the same key with another value would be refused.
        job = json.loads(os.environ[_JOB_CONFIG_VARIABLE]).get("runtime_env") or {}
        given = job.get("env_vars") or {}
        return {"env_vars": {name: value for name, value in env_vars.items() if name not in given}}
    if is_local:
        return {"env_vars": {"PYTHONPATH": python_path(), **env_vars}}
    modules = [f"{root}/{package}" for root, package in _package_folders()]
    return {"env_vars": env_vars, "py_modules": modules}


def _package_folders() -> list[tuple[str, str]]:
    roots = source_roots()
    packages = ("dpn_platform", "dpn_model")
    return [(root, name) for root in roots for name in packages if os.path.isdir(os.path.join(root, name))]


def _check_reachable(address: str, is_local: bool) -> None:
    """`ray.init` retries an address that does not answer for a quarter of an hour; one line says it at once."""
    has_token = os.environ.get("RAY_AUTH_MODE") == "token"
    if (
        not is_local
        and not has_token
        and _JOB_CONFIG_VARIABLE not in os.environ
        and os.environ.get("RAY_USE_TLS") != "1"
    ):
        raise DpnError(f"RAY_ADDRESS={address}: refused without authentication; set RAY_AUTH_MODE=token and its token")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_TIMEOUT_S).close()
    except ValueError as error:
        raise DpnError(f"RAY_ADDRESS={address}: HOST:PORT is needed") from error
    except OSError as error:
        raise DpnError(
            f"RAY_ADDRESS={address}: no Ray there ({error.strerror or error}); `dpn status` may tell more"
        ) from error
