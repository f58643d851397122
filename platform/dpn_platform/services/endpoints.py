"""Where the services are reached, and the environment that tells a client process so."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKET = "dpn"
REGION = "us-east-1"

# Without this Ray takes a loopback address for the machine's own and binds some ports to all interfaces.
RAY_LOOPBACK_ENV = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# `ray.train.report` waits for one poll of the controller; the default interval makes that two seconds.
RAY_QUIET_ENV = {
    **RAY_LOOPBACK_ENV,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Ray 2.60 warns once per process that it will stop hiding GPUs from tasks that ask for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # It also warns of "too many" processes, from four times this number on: by default the machine's cores. Two trials
    # with their readers and evaluators are twenty.
    "RAY_worker_maximum_startup_concurrency": "8",
}
MLFLOW_QUIET_ENV = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Endpoints:
    """Addresses of the three services. The secret part shows neither in `repr` nor in `public()`."""

    s3_url: str
    mlflow_url: str
    ray_address: str
    ray_dashboard_url: str
    ray_token_path: str
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    bucket: str = BUCKET

    def s3_env(self) -> dict[str, str]:
        """What an S3 client needs."""
        return {
            "AWS_ACCESS_KEY_ID": self.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3_secret_key,
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_DEFAULT_REGION": REGION,
        }

    def mlflow_env(self) -> dict[str, str]:
        """What an MLflow client needs; artifacts go through the server."""
        return {"MLFLOW_TRACKING_URI": self.mlflow_url, **MLFLOW_QUIET_ENV}

    def ray_env(self) -> dict[str, str]:
        """What `ray.init`, `ray job submit` and their workers need."""
        return {
            "RAY_ADDRESS": self.ray_address,
            "RAY_API_SERVER_ADDRESS": self.ray_dashboard_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": self.ray_token_path,
            **RAY_QUIET_ENV,
        }

    def env(self) -> dict[str, str]:
        """Everything together, for a client process."""
        return {**self.s3_env(), **self.mlflow_env(), **self.ray_env(), **without_proxy(os.environ)}

    def shell(self) -> str:
        """The environment as a file for `source`, for tools that are not ours (aws, ray, mlflow)."""
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self.env().items()))

    def public(self) -> dict[str, Any]:
        """The part that may be printed."""
        return {
            "s3_url": self.s3_url,
            "bucket": self.bucket,
            "mlflow_url": self.mlflow_url,
            "ray_address": self.ray_address,
            "ray_dashboard_url": self.ray_dashboard_url,
        }


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY with loopback in it, where a proxy is set: clients would send it even `127.0.0.1`."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in env):
        return {}
    known = env.get("NO_PROXY") or env.get("no_proxy") or ""
    hosts = [host for host in known.split(",") if host]
    hosts += [host for host in ("127.0.0.1", "localhost") if host not in hosts]
    return {"NO_PROXY": ",".join(hosts), "no_proxy": ",".join(hosts)}
