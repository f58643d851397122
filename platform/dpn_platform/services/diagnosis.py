"""What `dpn doctor` finds: what is installed, reachable and configured, what is missing and how to mend it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from dpn_platform.config.errors import DpnError
from dpn_platform.services.connection import external_services
from dpn_platform.services.home import Home
from dpn_platform.services.inspection import status
from dpn_platform.services.lock import LOCK, RANGE_TESTED, compare, locked_versions
from dpn_platform.services.packages import OPTIONAL, Package, installed_version, needed_packages, try_imports
from dpn_platform.services.servers import find_weed

_GIB = 2**30
_DISK_NEEDED_GIB, _DISK_WISHED_GIB = 1.0, 5.0
_MEMORY_NEEDED_GIB, _MEMORY_WISHED_GIB = 2.0, 5.0
_REACH_TIMEOUT_S = 3.0
_SET_UP = "make setup"
_NAMED = 8
_ADDRESSES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fail` makes the platform unusable, `warn` does not."""

    area: Literal["python", "package", "program", "machine", "service", "configuration"]
    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether nothing fails."""
        return all(finding.state != "fail" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"usable": self.is_usable, "findings": [asdict(finding) for finding in self.findings]}


def diagnose(
    home: Path | str | None = None, *, imports: bool = True, on_progress: Callable[[str, int, int], None] | None = None
) -> Diagnosis:
    """Looks at everything.

    Args:
        home: the services' state folder.
        imports: really import every package (10-20 s), not only read its version.
        on_progress: told of each import: what, how many done, of how many.
    """
    packages = needed_packages()
    facts = _import_all(packages, on_progress) if imports else {}
    locked = locked_versions()
    place = Home.resolve(home)
    findings = [
        _python(),
        *(_package(package, facts.get(package.import_name), locked.get(package.name)) for package in packages),
        *_optional(facts),
        _lock(locked, {package.name for package in packages if package.fits}),
        _weed(),
        *_machine(place),
        _gpu(facts, imports),
        *_services(place),
        *_external(),
        _home(place),
    ]
    return Diagnosis(tuple(findings))


def _import_all(
    packages: list[Package], on_progress: Callable[[str, int, int], None] | None
) -> dict[str, dict[str, Any]]:
    names = [package.import_name for package in packages if package.version and package.import_name]
    done: list[str] = []

    def count(name: str) -> None:
        done.append(name)
        if on_progress is not None:
            on_progress(name, len(done), len(names))

    return try_imports(names, count)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "python", "ok", f"{version} at {sys.executable}")


def _package(package: Package, fact: dict[str, Any] | None, locked: str | None) -> Finding:
    wanted = f" (wanted {package.wanted})" if package.wanted else ""
    if package.version is None:
        return Finding("package", package.name, "fail", f"not installed{wanted}", _SET_UP)
    if fact is not None and fact["error"]:
        return Finding("package", package.name, "fail", f"{package.version} does not import: {fact['error']}", _SET_UP)
    if not package.fits:
        return Finding("package", package.name, "warn", f"{package.version}{wanted}", _SET_UP)
    if locked not in (None, package.version) and package.name in RANGE_TESTED:
        detail = f"{package.version}; the lock has {locked}, tested is {package.wanted}"
        return Finding("package", package.name, "ok", detail)
    return Finding("package", package.name, "ok", package.version)


def _lock(locked: dict[str, str], fitting: set[str]) -> Finding:
    """What no test has seen: packages of another version than the locked one."""
    count, differences = compare(locked)
    untested = [one for one in differences if not (one.name in RANGE_TESTED and one.name in fitting)]
    if not untested:
        return Finding("package", "lock", "ok", f"the tested versions of all {count} packages")
    named = ", ".join(f"{one.name} {one.version} (lock: {one.locked})" for one in untested[:_NAMED])
    more = f" and {len(untested) - _NAMED} more" if len(untested) > _NAMED else ""
    detail = f"{len(untested)} of {count} packages in a version that was not tested: {named}{more}"
    return Finding("package", "lock", "warn", detail, f"{_SET_UP}, or pip install --no-deps -r {LOCK}")


def _optional(facts: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    has_gpu = bool(facts.get("torch", {}).get("gpus"))
    for package in OPTIONAL:
        version = installed_version(package.name)
        detail = version or f"not installed (optional); {package.without}"
        is_missed = version is None and has_gpu and package.is_for_gpus
        mend = f'pip install -e ".[{package.extra}]"' if is_missed else ""
        yield Finding("package", package.name, "warn" if is_missed else "ok", detail, mend)


def _weed() -> Finding:
    try:
        return Finding("program", "weed", "ok", find_weed())
    except DpnError as error:
        return Finding("program", "weed", "fail", str(error), _SET_UP)


def _machine(place: Home) -> Iterator[Finding]:
    existing = next(folder for folder in (place.path, *place.path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / _GIB
    state = _graded(free, _DISK_NEEDED_GIB, _DISK_WISHED_GIB)
    mend = "" if state == "ok" else "free some disk, or set DPN_HOME to a folder on a larger one"
    yield Finding("machine", "disk", state, f"{free:.1f} GiB free at {existing}", mend)
    memory = psutil.virtual_memory()
    state = _graded(memory.available / _GIB, _MEMORY_NEEDED_GIB, _MEMORY_WISHED_GIB)
    detail = f"{memory.available / _GIB:.1f} GiB available of {memory.total / _GIB:.1f} GiB"
    mend = "" if state == "ok" else "end other programs; the services take 1.5 GiB, a training worker 1 GiB more"
    yield Finding("machine", "memory", state, detail, mend)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    mend = "" if cores >= 2 else "two cores or more: services and training share them"
    yield Finding("machine", "cores", "warn" if mend else "ok", f"{cores} usable", mend)


def _graded(value: float, needed: float, wished: float) -> Literal["ok", "warn", "fail"]:
    return "fail" if value < needed else "warn" if value < wished else "ok"


def _gpu(facts: dict[str, dict[str, Any]], imports: bool) -> Finding:
    if not imports:
        return Finding("machine", "gpu", "ok", "not looked for (needs the imports)")
    gpus = facts.get("torch", {}).get("gpus") or []
    return Finding("machine", "gpu", "ok", ", ".join(gpus) or "none; everything runs on the CPU")


def _services(place: Home) -> Iterator[Finding]:
    for service in status(place.path).services:
        if service.state == "up":
            yield Finding("service", service.name, "ok", f"up at {service.url}")
        elif service.detail == "not started":
            yield Finding("service", service.name, "ok", "not started; `dpn up` and `dpn sweep` start it")
        else:
            yield Finding("service", service.name, "warn", f"{service.state}: {service.detail}", "dpn up")


def _external() -> Iterator[Finding]:
    """Services that the user named himself: does anything listen there."""
    if not external_services():
        return
    for name in _ADDRESSES:
        value = os.environ.get(name, "")
        parts = urlsplit(value if "://" in value else f"tcp://{value}")
        if not value or not parts.hostname:
            continue
        port = parts.port or (443 if parts.scheme == "https" else 80)
        where = f"{parts.hostname}:{port}"  # never the whole value: an address may carry a password
        try:
            socket.create_connection((parts.hostname, port), timeout=_REACH_TIMEOUT_S).close()
            yield Finding("configuration", name, "ok", f"{where} is reachable")
        except OSError as error:
            why = error.strerror or str(error)
            yield Finding("configuration", name, "fail", f"{where} is not reachable ({why})", f"mend or unset {name}")


def _home(place: Home) -> Finding:
    lax = [path.name for path in place.secrets if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    if lax:
        files = " ".join(str(place.path / name) for name in lax)
        return Finding("configuration", "home", "fail", f"others may read {', '.join(lax)}", f"chmod 600 {files}")
    existing = next(folder for folder in (place.path, *place.path.parents) if folder.exists())
    if not existing.is_dir():
        return Finding("configuration", "home", "fail", f"{existing} is a file", "set DPN_HOME to a folder")
    if not os.access(existing, os.W_OK):
        return Finding("configuration", "home", "fail", f"{existing} is not writable", "set DPN_HOME to another folder")
    origin = "DPN_HOME" if os.environ.get("DPN_HOME") else "default"
    return Finding("configuration", "home", "ok", f"{place.path} ({origin})")
