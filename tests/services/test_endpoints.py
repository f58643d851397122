"""Endpoints tell clients everything and onlookers nothing secret."""

from __future__ import annotations

import shlex

import pytest

from dpn_platform.services.endpoints import Endpoints, without_proxy

ENDPOINTS = Endpoints(
    s3_url="http://127.0.0.1:1",
    mlflow_url="http://127.0.0.1:2",
    ray_address="127.0.0.1:3",
    ray_dashboard_url="http://127.0.0.1:4",
    ray_token_path="/a b/token",
    s3_access_key="KEY",
    s3_secret_key="S3CRET",
)


def test_env_names_every_service() -> None:
    env = ENDPOINTS.env()
    expected = {
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "S3CRET",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:2",
        "RAY_ADDRESS": "127.0.0.1:3",
        "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:4",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "/a b/token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    }
    assert expected.items() <= env.items()


def test_secrets_show_neither_in_repr_nor_in_the_public_part() -> None:
    for text in (repr(ENDPOINTS), str(ENDPOINTS.public())):
        assert "S3CRET" not in text
        assert "KEY" not in text


def test_shell_form_is_quoted() -> None:
    lines = ENDPOINTS.shell().splitlines()
    assert all(line.startswith("export ") for line in lines)
    assert shlex.split(next(line for line in lines if "TOKEN_PATH" in line))[1] == "RAY_AUTH_TOKEN_PATH=/a b/token"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {}),
        ({"NO_PROXY": "x"}, {}),
        ({"http_proxy": "http://p"}, "127.0.0.1,localhost"),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "a,127.0.0.1"}, "a,127.0.0.1,localhost"),
    ],
)
def test_loopback_never_goes_through_a_proxy(env: dict[str, str], expected: dict[str, str] | str) -> None:
    both = {"NO_PROXY": expected, "no_proxy": expected} if isinstance(expected, str) else expected
    assert without_proxy(env) == both
