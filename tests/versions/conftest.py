"""The lock and the project's requirements, for each environment that is supported."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.versions.make_lock import EXTRAS, LOCK, TARGETS

ROOT = Path(__file__).parents[2]


def variables(target):
    """What markers see in such an environment."""
    return {
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "platform_machine": target.machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def applies(requirement, target, extra=""):
    return requirement.marker is None or requirement.marker.evaluate({**variables(target), "extra": extra})


@pytest.fixture(scope="session")
def entries():
    """The lock's lines."""
    return [Requirement(line) for line in LOCK.read_text().splitlines() if not line.startswith("#")]


@pytest.fixture(scope="session")
def locked(entries):
    """`locked(target) -> {name: [versions]}`."""

    def look(target):
        found = {}
        for entry in entries:
            if applies(entry, target):
                found.setdefault(entry.name, []).append(str(entry.specifier).removeprefix("=="))
        return found

    return look


@pytest.fixture(scope="session")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def wanted(project):
    """What pyproject asks for: the platform, the locked extras, what builds it."""
    extras = project["project"]["optional-dependencies"]
    lines = [*project["project"]["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    return [Requirement(line) for line in [*lines, *project["build-system"]["requires"]]]


@pytest.fixture(params=TARGETS, ids="-".join)
def target(request):
    return request.param
