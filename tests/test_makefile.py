"""`make`: what a newcomer types, and what it says when the machine is not ready."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LOCK = "platform/dpn_platform/requirements.lock"


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # As a user would: `make test` tells the makes below it that they are.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """A checkout with nothing but the files that set-up looks at."""
    for name in ("Makefile", "pyproject.toml", LOCK):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
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
        "make: Python 3.11 to 3.13 is needed, './old' is Python 3.9.2; name another one: make setup PY=python3.12"
    )
    assert not (checkout / ".venv").exists()


def test_absent_python_is_one_clear_line(checkout: Path) -> None:
    assert make(checkout, "setup", "PY=nopython").stderr.startswith("make: no program 'nopython'; Python 3.11 to 3.13")


@pytest.fixture
def fake(checkout: Path) -> str:
    """Stands in for Python and, copied as the environment's, for pip: it writes down what it is asked."""
    script = (
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;'
        ' echo "#!$PWD/.venv/bin/python" > .venv/bin/pip;;'
        ' *"check") cat checked 2>/dev/null;;'
        ' *"-m pip"*) echo "$DS_BUILD_OPS:$*" >> asked;; esac'
    )
    return f"PY=./{program(checkout / 'fake', script).name}"


def asked(checkout: Path) -> list[str]:
    return [line.partition("install ")[2] for line in (checkout / "asked").read_text().splitlines()]


def test_set_up_installs_the_lock_then_torch_and_only_once(checkout: Path, fake: str) -> None:
    index = "https://index.example.org/cpu"
    done = make(checkout, "setup", fake, f"TORCH_INDEX={index}")
    assert done.returncode == 0, done.stderr
    exactly = "-q --no-deps --no-build-isolation --use-pep517"
    assert asked(checkout) == [
        f"-q -c {LOCK} setuptools",
        f"{exactly} -r {LOCK}",
        f"-q -c {LOCK} --index-url {index} torch==2.13.0",
        f"{exactly} -e .",
    ]
    assert (checkout / "asked").read_text().splitlines()[1].startswith("0:")
    assert "setup: done" in done.stdout
    again = make(checkout, "setup", fake)
    assert len(asked(checkout)) == 4
    assert "setup" not in again.stdout.replace("Nothing to be done for 'setup'", "")


def test_another_build_of_torch_may_be_chosen(checkout: Path, fake: str) -> None:
    make(checkout, "setup", fake, "TORCH=torch==2.13.0+cu130")
    assert f"-q -c {LOCK} torch==2.13.0+cu130" in asked(checkout)


@pytest.mark.parametrize("name", [LOCK, "pyproject.toml"])
def test_renewed_lock_or_requirement_is_installed(checkout: Path, fake: str, name: str) -> None:
    make(checkout, "setup", fake)
    stamp = next((checkout / ".venv").glob(".ready-*"))
    later = stamp.stat().st_mtime + 5
    os.utime(checkout / name, (later, later))
    make(checkout, "setup", fake)
    assert len(asked(checkout)) == 8


def test_lock_that_does_not_fit_the_project_fails_the_set_up(checkout: Path, fake: str) -> None:
    wrong = "dpn-lab 0.1.0 has requirement typer<0.30,>=0.29, but you have typer 0.28.0."
    (checkout / "checked").write_text(f"other 1.0 requires absent, which is not installed.\n{wrong}\n")
    done = make(checkout, "setup", fake)
    assert done.returncode != 0
    assert done.stderr.splitlines()[:2] == [
        wrong,
        f"make: this is not what pyproject.toml asks for; if it was changed, renew {LOCK}: make lock",
    ]
    assert list((checkout / ".venv").glob(".ready-*")) == []
    (checkout / "checked").write_text("other 1.0 requires absent, which is not installed.\n")
    assert make(checkout, "setup", fake).returncode == 0


def test_clean_and_down_without_an_environment_touch_nothing_of_the_users(checkout: Path) -> None:
    for folder in (".dpn", "outputs", ".pytest_cache"):
        (checkout / folder).mkdir()
    assert make(checkout, "clean").returncode == 0
    assert make(checkout, "down").stdout.strip() == "nothing was running"
    assert sorted(path.name for path in checkout.iterdir() if path.is_dir()) == [".dpn", "outputs", "platform"]
