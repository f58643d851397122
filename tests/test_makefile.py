"""`make`: what a newcomer types, and what it says when the machine is not ready."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # As a user would: `make test` tells the makes below it that they are.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """A checkout with nothing but the two files that set-up looks at."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((repo_root / name).read_bytes())
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_help_is_the_default_and_lists_every_target(repo_root: Path) -> None:
    listed = make(repo_root).stdout
    phony = next(line for line in (repo_root / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert all(f"make {target} " in listed for target in phony.split()[1:])


def test_old_python_is_one_clear_line(checkout: Path) -> None:
    program(checkout / "old", 'if [ "$1" = -V ]; then echo Python 3.9.2; else exit 1; fi')
    done = make(checkout, "setup", "PY=./old")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        "make: Python 3.11 or newer is needed, './old' is Python 3.9.2; name another one: make setup PY=python3.12"
    )
    assert not (checkout / ".venv").exists()


def test_absent_python_is_one_clear_line(checkout: Path) -> None:
    assert make(checkout, "setup", "PY=nopython").stderr.startswith("make: no program 'nopython'; Python 3.11 or newer")


def test_set_up_installs_torch_first_and_only_once(checkout: Path) -> None:
    # Stands in for Python and, copied as the environment's, for pip: it writes down what it is asked.
    script = (
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;'
        ' echo "#!$PWD/.venv/bin/python" > .venv/bin/pip;;'
        ' *"-m pip"*) echo "$DS_BUILD_OPS:$*" >> asked;; esac'
    )
    program(checkout / "fake", script)
    index = "https://index.example.org/cpu"
    done = make(checkout, "setup", "PY=./fake", f"TORCH_INDEX={index}")
    assert done.returncode == 0, done.stderr
    asked = (checkout / "asked").read_text().splitlines()
    assert [line.partition("install ")[2] for line in asked] == [
        f"-q --index-url {index} torch==2.13.0",
        "-q -e .[dev]",
    ]
    assert asked[1].startswith("0:")
    assert "setup: done" in done.stdout
    again = make(checkout, "setup", "PY=./fake")
    assert len((checkout / "asked").read_text().splitlines()) == 2
    assert "setup" not in again.stdout.replace("Nothing to be done for 'setup'", "")


def test_clean_and_down_without_an_environment_touch_nothing_of_the_users(checkout: Path) -> None:
    for folder in (".dpn", "outputs", ".pytest_cache"):
        (checkout / folder).mkdir()
    assert make(checkout, "clean").returncode == 0
    assert make(checkout, "down").stdout.strip() == "nothing was running"
    assert sorted(path.name for path in checkout.iterdir() if path.is_dir()) == [".dpn", "outputs"]
