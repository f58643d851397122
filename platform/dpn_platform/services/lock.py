"""The locked versions, which the whole suite was passed with, and where this environment differs from them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# A file of the package: it is there in an installed one too.
LOCK = Path(__file__).parents[1] / "requirements.lock"
# Of these any allowed version is tested: `make compat` runs the model's tests with the oldest and the newest one.
RANGE_TESTED = ("torch", "transformers")


@dataclass(frozen=True)
class Difference:
    """An installed package of another version than the locked one."""

    name: str
    version: str
    locked: str


def locked_versions() -> dict[str, str]:
    """Name -> version for this Python and machine. torch is not among them: its build is chosen at set-up."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    entries = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {one.name: str(one.specifier)[2:] for one in entries if one.marker is None or one.marker.evaluate()}


def compare(locked: dict[str, str]) -> tuple[int, list[Difference]]:
    """How many of the packages are installed, and which of them have another version.

    One that is absent is no difference: the tools of development and of benchmarks are locked too.
    """
    # Of two with one name, the first on the path is imported.
    installed: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        installed.setdefault(canonicalize_name(one.metadata["Name"]), one.version)
    present = sorted(installed.keys() & locked.keys())
    return len(present), [
        Difference(name, installed[name], locked[name]) for name in present if installed[name] != locked[name]
    ]
