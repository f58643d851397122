"""Resolves the whole tree of dependencies into requirements.lock: what `make lock` runs, with any Python that has venv.

uv resolves once for each supported Python and architecture, in an environment that is thrown away; where they differ,
the line gets a marker. torch, and what only torch brings, stays out: its build (CPU, CUDA) is the user's choice.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from os import environ
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "platform/dpn_platform/requirements.lock"
UV = "uv>=0.13,<0.14"
EXTRAS = ("detection", "dev", "bench")
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.+|cuda-.+)")
HEADER = """\
# Every package of every environment: the platform's, those of the extras detection, dev and bench, what they need.
# Python 3.11 to 3.13 on Linux, x86-64 and aarch64; torch and its CUDA packages are chosen at set-up.
# Made by `make lock` from the ranges in pyproject.toml; not edited by hand.
"""


class Target(NamedTuple):
    """What one resolution is for."""

    python: str
    machine: str


TARGETS = [Target(python, machine) for python in PYTHONS for machine in MACHINES]


def merged(resolved: Mapping[Target, Mapping[str, str]]) -> list[str]:
    """The lock's lines, by name.

    Args:
        resolved: name -> version, of each target.
    """
    lines = []
    for name in sorted({name for versions in resolved.values() for name in versions}):
        targets: dict[str, list[Target]] = {}
        for target, versions in resolved.items():
            if name in versions:
                targets.setdefault(versions[name], []).append(target)
        for version, where in targets.items():
            marker = _marker(where, list(resolved))
            lines.append(f"{name}=={version}" + (f" ; {marker}" if marker else ""))
    return lines


def _marker(where: list[Target], everywhere: list[Target]) -> str:
    """The environments `where` as a marker; empty for all of them."""
    if len(where) == len(everywhere):
        return ""
    pythons = {target.python for target in where}
    machines = {target.machine for target in where}
    if len(where) < len(pythons) * len(machines):  # no rectangle: machine by machine
        parts = [_marker([one for one in where if one.machine == machine], everywhere) for machine in sorted(machines)]
        return " or ".join(f"({part})" for part in parts)
    tests = []
    if len(pythons) < len({target.python for target in everywhere}):
        tests.append(" or ".join(f"python_version == '{python}'" for python in sorted(pythons)))
    if len(machines) < len({target.machine for target in everywhere}):
        tests.append(" or ".join(f"platform_machine == '{machine}'" for machine in sorted(machines)))
    return " and ".join(f"({test})" if len(tests) > 1 and " or " in test else test for test in tests)


def resolve(uv: Path, target: Target) -> dict[str, str]:
    """Name -> version of every package that an environment of this kind has, torch's own left out."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    command = [str(uv), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade", "pyproject.toml", "-"]
    command += [word for extra in EXTRAS for word in ("--extra", extra)]
    command += ["--python-version", target.python, "--python-platform", f"{target.machine}-manylinux_2_28"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(build), text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"make lock: no set of versions fits pyproject.toml on Python {target.python}, {target.machine}")
    pairs = (line.split("==") for line in done.stdout.splitlines())
    return {name: version for name, version in pairs if not LEFT_OUT.fullmatch(name)}


def use_pips_index() -> None:
    """Makes uv ask the index that pip asks; uv does not read pip's settings.

    Neither pip's extra indexes nor its folders of wheels: what they hold is for this machine's Python, mostly.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    urls = re.findall(r"^(?:global|site|user)\.index-url='(.+)'$", listed, re.MULTILINE)
    url = environ.get("PIP_INDEX_URL") or (urls[-1] if urls else "")
    if url:
        environ.setdefault("UV_DEFAULT_INDEX", url)


def main() -> None:
    """Writes the lock; says what changed."""
    use_pips_index()
    with tempfile.TemporaryDirectory(prefix="dpn-lock-") as folder:
        print("lock: fetching uv")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([Path(folder, "bin/python"), "-m", "pip", "install", "-q", UV], check=True)
        resolved = {}
        for target in TARGETS:
            print(f"lock: resolving for Python {target.python} on {target.machine}")
            resolved[target] = resolve(Path(folder, "bin/uv"), target)
    lines = merged(resolved)
    before = LOCK.read_text().splitlines() if LOCK.exists() else []
    LOCK.write_text(HEADER + "\n".join(lines) + "\n")
    for sign, those, others in (("-", before, lines), ("+", lines, before)):
        for line in those:
            if line not in others and not line.startswith("#"):
                print(f"{sign} {line}")
    print(f"lock: {len(lines)} lines in {LOCK.relative_to(ROOT)}; run `make setup test compat` with them")


if __name__ == "__main__":
    main()
