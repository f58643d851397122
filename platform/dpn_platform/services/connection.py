"""Points this process at the services: the user's own where the environment names them, else the embedded ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

from dpn_platform.config.errors import DpnError
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home
from dpn_platform.services.inspection import endpoints, running

# Which variable decides that a service is the user's own.
_DECIDING = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    "mlflow": ("MLFLOW_TRACKING_URI",),
    "ray": ("RAY_ADDRESS",),
}
# They would go with the user's AWS account and spoil the signature of requests to the embedded S3.
_FOREIGN_TO_EMBEDDED_S3 = ("AWS_SESSION_TOKEN", "AWS_PROFILE")
_applied: dict[str, str] = {}


def connect(home: Path | str | None = None, needs: Collection[str] = tuple(_DECIDING)) -> Endpoints:
    """Sets this process's environment so that storage, tracking and Ray reach the services.

    A service that the user named (`AWS_ENDPOINT_URL`, `MLFLOW_TRACKING_URI`, `RAY_ADDRESS`) is left as it
    is. Call it before `import ray`, which reads part of its environment when it is imported.

    Args:
        home: the state folder of the embedded services.
        needs: names of the services that must be there; embedded ones that run are connected too.

    Returns:
        What the process is now connected to.

    Raises:
        DpnError: services are needed and not running; or the workers of the embedded Ray would not reach the S3
            server the user named; or Ray was imported too early.
    """
    external = external_services()
    wanted = set(needs) - external
    present = running(home) - external
    if not wanted | present:
        return _endpoints_from_environment(None)
    embedded = endpoints(home, wanted)
    if embedded is None:
        place = Home.resolve(home).path
        missing = ", ".join(sorted(wanted - present))
        raise DpnError(
            f"the services of {place} are not running ({missing}); start them with `dpn up` (`dpn status` tells more)"
        )
    if "s3" in external and {"s3", "ray"} <= set(needs) and "ray" not in external:
        given = _first(_DECIDING["s3"])
        if given != embedded.s3_url:
            raise DpnError(
                f"AWS_ENDPOINT_URL={given} with the embedded Ray, whose workers know only {embedded.s3_url}: "
                "set RAY_ADDRESS to a cluster that knows it too, or unset AWS_ENDPOINT_URL"
            )
    if "ray" in wanted and "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        raise DpnError("`import ray` came before `connect()`: Ray has read its settings already; connect first")
    _apply(embedded, wanted | present)
    return _endpoints_from_environment(embedded)


def external_services() -> set[str]:
    """Names of the services that the environment points to and that this process did not put there itself."""
    return {
        service
        for service, names in _DECIDING.items()
        if any(os.environ.get(name) and os.environ[name] != _applied.get(name) for name in names)
    }


def _apply(embedded: Endpoints, services: set[str]) -> None:
    parts = {"s3": embedded.s3_env(), "mlflow": embedded.mlflow_env(), "ray": embedded.ray_env()}
    values = {name: value for part in services for name, value in parts[part].items()}
    if "s3" in services:
        for name in _FOREIGN_TO_EMBEDDED_S3:
            os.environ.pop(name, None)
    # What the caller set among the finer settings (say, Ray's poll interval) stays.
    proxies = {name: value for name, value in embedded.env().items() if name.lower() == "no_proxy"}
    os.environ.update({**values, **proxies})
    for name in _applied.keys() - values.keys():
        os.environ.pop(name, None)
    _applied.clear()
    _applied.update(values)


def _endpoints_from_environment(embedded: Endpoints | None) -> Endpoints:
    env = os.environ.get
    return Endpoints(
        s3_url=_first(_DECIDING["s3"]) or "",
        mlflow_url=env("MLFLOW_TRACKING_URI", ""),
        ray_address=env("RAY_ADDRESS", ""),
        ray_dashboard_url=env("RAY_API_SERVER_ADDRESS") or (embedded.ray_dashboard_url if embedded else ""),
        ray_token_path=env("RAY_AUTH_TOKEN_PATH", ""),
        s3_access_key=env("AWS_ACCESS_KEY_ID", ""),
        s3_secret_key=env("AWS_SECRET_ACCESS_KEY", ""),
    )


def _first(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in reversed(names) if os.environ.get(name)), None)
