"""What the services of one home are started with: ports, credentials, folders, the servers' environment."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home, read_json_file, write_private
from dpn_platform.services.ports import LOOPBACK

# The caller's own settings would mislead a server: another S3 account, another cluster, another tracking server.
_FOREIGN_PREFIXES = ("AWS_", "MLFLOW_", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_", "RAY_JOB_")
_HARMLESS = ("AWS_CA_BUNDLE",)


@dataclass(frozen=True)
class Plan:
    """One consistent choice for all three services; built from the home's files, the same every time."""

    home: Home
    ports: dict[str, int]
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def url(self, port: str) -> str:
        """The http address of a named port."""
        return f"http://{LOOPBACK}:{self.ports[port]}"

    def endpoints(self) -> Endpoints:
        """The addresses and credentials for clients."""
        return Endpoints(
            s3_url=self.url("s3"),
            mlflow_url=self.url("mlflow"),
            ray_address=f"{LOOPBACK}:{self.ports['ray_gcs']}",
            ray_dashboard_url=self.url("ray_dashboard"),
            ray_token_path=str(self.home.ray_token),
            s3_access_key=self.access_key,
            s3_secret_key=self.secret_key,
        )

    def base_env(self) -> dict[str, str]:
        """The caller's environment without what belongs to other services of the user."""
        return {
            name: value
            for name, value in os.environ.items()
            if name in _HARMLESS or not name.startswith(_FOREIGN_PREFIXES)
        }

    def setup_digest(self, port_names: tuple[str, ...]) -> str:
        """Changes when a service must be restarted: its own ports, or the S3 server it was told of, are others."""
        material = [self.access_key, self.secret_key, self.ports["s3"], *(self.ports[name] for name in port_names)]
        return hashlib.sha256(json.dumps(material).encode()).hexdigest()[:16]


def load_credentials(home: Home) -> tuple[str, str]:
    """The S3 key pair of this home, drawn at random the first time, and Ray's token with it."""
    try:
        pair = (read_json_file(home.s3_config) or {})["identities"][0]["credentials"][0]
        credentials = (str(pair["accessKey"]), str(pair["secretKey"]))
    except (KeyError, IndexError, TypeError):
        credentials = (f"DPN{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        write_private(home.s3_config, _identities(*credentials))
    if not home.ray_token.exists():
        write_private(home.ray_token, secrets.token_hex(32))
    return credentials


def load_plan(home: Home) -> Plan | None:
    """The plan the home was last started with, or None when it never was."""
    ports = read_json_file(home.path / "ports.json")
    if not isinstance(ports, dict) or not home.s3_config.exists():
        return None
    return Plan(home, ports, *load_credentials(home))


def source_roots() -> list[str]:
    """Folders that must be on PYTHONPATH so that a worker can import what this process imports of ours."""
    roots: list[str] = []
    for package in ("dpn_platform", "dpn_model"):
        spec = importlib.util.find_spec(package)  # finds without importing: dpn_model would load torch
        for location in (spec.submodule_search_locations or ()) if spec else ():
            root = str(Path(location).resolve().parent)
            if root not in roots:
                roots.append(root)
    return roots


def python_path() -> str:
    """What workers on this machine find packages by: ours, then what the user has put on the path (a method, say)."""
    own = [str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys([*source_roots(), *own]))


def _identities(access_key: str, secret_key: str) -> str:
    identity = {
        "name": "dpn",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]}, indent=2)
