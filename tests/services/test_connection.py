"""Connecting: embedded services by default, the user's own where the environment names them."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.services import connect, connection, external_services
from dpn_platform.services.endpoints import Endpoints

OURS = Endpoints(
    s3_url="http://127.0.0.1:1",
    mlflow_url="http://127.0.0.1:2",
    ray_address="127.0.0.1:3",
    ray_dashboard_url="http://127.0.0.1:4",
    ray_token_path="/token",
    s3_access_key="KEY",
    s3_secret_key="S3CRET",
)


@pytest.fixture
def env(plain_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No service named; embedded ones run; what `connect` sets is undone."""
    plain_environment.setattr(connection, "endpoints", lambda home, needs=None: OURS)
    plain_environment.setattr(connection, "running", lambda home: {"s3", "mlflow", "ray"})
    plain_environment.setattr(connection, "_applied", {})
    for name in OURS.env():  # so that monkeypatch restores them afterwards
        plain_environment.setenv(name, "")
        plain_environment.delenv(name)
    plain_environment.setenv("RAY_AUTH_MODE", "token")  # other tests of this run may have imported Ray
    return plain_environment


def test_connect_points_the_process_at_the_embedded_services(env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_SESSION_TOKEN", "of another account")
    assert connect() == OURS
    assert OURS.env().items() <= dict(os.environ).items()
    assert "AWS_SESSION_TOKEN" not in os.environ


def test_connect_again_follows_services_that_moved(env: pytest.MonkeyPatch) -> None:
    connect()
    assert external_services() == set()
    moved = Endpoints(**{**vars(OURS), "s3_url": "http://127.0.0.1:9"})
    env.setattr(connection, "endpoints", lambda home, needs=None: moved)
    assert connect() == moved
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"


def test_services_the_user_named_win(env: pytest.MonkeyPatch) -> None:
    env.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert external_services() == {"mlflow"}
    connected = connect()
    assert connected.mlflow_url == os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    assert connected.s3_url == OURS.s3_url


def test_nothing_embedded_is_needed_when_all_are_named(env: pytest.MonkeyPatch) -> None:
    env.setattr(connection, "endpoints", lambda home, needs=None: pytest.fail("asked for"))
    env.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    env.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    env.setenv("RAY_ADDRESS", "head.example.org:6379")
    connected = connect()
    assert connected.ray_address == "head.example.org:6379"
    assert connected.s3_url == "https://s3.example.org"


def test_embedded_ray_cannot_serve_another_s3(env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    with pytest.raises(DpnError, match="set RAY_ADDRESS to a cluster that knows it too, or unset AWS_ENDPOINT_URL"):
        connect()


def test_ray_imported_too_early_is_told(env: pytest.MonkeyPatch) -> None:
    env.delenv("RAY_AUTH_MODE")
    env.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(DpnError, match="connect first"):
        connect()


def test_services_that_do_not_run_are_one_clear_line(plain_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DpnError, match=r"are not running \(mlflow, ray, s3\); start them with `dpn up`"):
        connect(tmp_path)


def test_only_what_is_needed_has_to_run(env: pytest.MonkeyPatch) -> None:
    env.setattr(connection, "running", lambda home: {"ray"})
    env.setattr(connection, "endpoints", lambda home, needs: OURS if needs <= {"ray"} else None)
    connect(needs=["ray"])
    assert os.environ["RAY_ADDRESS"] == OURS.ray_address
    assert "AWS_ENDPOINT_URL" not in os.environ
    with pytest.raises(DpnError, match=r"not running \(s3\)"):
        connect(needs=["ray", "s3"])
