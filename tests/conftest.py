"""Fixtures of general use: a private environment for every run, the real services, the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpn_platform import services as embedded
from dpn_platform.services.endpoints import MLFLOW_QUIET_ENV, RAY_QUIET_ENV
from dpn_platform.services.plan import load_credentials

REPO_ROOT = Path(__file__).resolve().parents[1]
# What would lead tests to the services or the account of whoever runs them, or make tables as wide as their terminal.
_FOREIGN_PREFIXES = (
    "COLUMNS",
    "AWS_",
    "MLFLOW_TRACKING_",
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_",
    "DPN_HOME",
)
_HARMLESS = ("AWS_CA_BUNDLE",)
_KEPT_HOME = "DPN_TEST_HOME"
# Set by the first process of a run for pytest-xdist's workers: all of them use one set of services.
_SHARED_HOME = "DPN_TEST_SHARED_HOME"
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def _make_environment_private() -> Path:
    """Sets what Ray and MLflow read when they are imported; returns the state folder of this run.

    `DPN_TEST_HOME` names a state folder to keep and to reuse from run to run; its services are not stopped.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN_PREFIXES) and name not in _HARMLESS]:
        del os.environ[name]
    home = os.environ.get(_KEPT_HOME) or (os.environ.get(_SHARED_HOME) if _IS_WORKER else None)
    # The path is short: Ray's unix sockets lie below it.
    place = embedded.Home.resolve(home or tempfile.mkdtemp(prefix="dpn-test-"))
    os.environ[_SHARED_HOME] = str(place.path)
    load_credentials(place)  # the token is there before the services are
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place.ray_token), **RAY_QUIET_ENV}
    os.environ.update({"DPN_HOME": str(place.path), "OMP_NUM_THREADS": "1", **ray, **MLFLOW_QUIET_ENV})
    return place.path


# Not in a hook: pytest imports the conftest of a folder named on its command line, and so Ray, before any hook runs.
_HOME = _make_environment_private()


def pytest_unconfigure() -> None:
    """Stops the services and removes the state folder, when all workers are done."""
    if not _IS_WORKER and not os.environ.get(_KEPT_HOME):
        embedded.down(_HOME)
        shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def services() -> Iterator[embedded.Endpoints]:
    """The real services in the test run's state folder; the process's environment points to them."""
    try:
        endpoints = embedded.up()
        os.environ.update(endpoints.env())
        yield endpoints
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


@pytest.fixture(scope="session")
def run_dpn() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `dpn` in a process of its own, with the run's environment."""

    def run(*arguments: str, timeout_s: float = 300.0, **env: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(REPO_ROOT / "platform"), str(REPO_ROOT)])
        return subprocess.run(
            [sys.executable, "-m", "dpn_platform", *arguments],
            env={**os.environ, "PYTHONPATH": path, **env},
            cwd=REPO_ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def process_group() -> Iterator[None]:
    """See `group_of_one`."""
    from tests.integration.local_run import group_of_one

    with group_of_one():
        yield
