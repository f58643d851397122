"""The small demo set that the end-to-end tests train on, and a process of the command line that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.demo.prepare import DemoRecipe, ensure_demo
from dpn_platform.services.ray_client import init_ray

SMALL_SET = "s3://dpn/datasets/e2e"


@pytest.fixture(scope="session")
def small_set(services: Any) -> str:
    """URI of a published demo set of a few hundred samples."""
    init_ray()
    ensure_demo(DemoRecipe(num_train=400, num_test=60), uri=SMALL_SET, raw_uri="s3://dpn/raw/e2e")
    return SMALL_SET


@pytest.fixture
def start_dpn(repo_root: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `dpn` in a process of its own; its stderr goes to `<tmp_path>/<tag>.err`."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(tag: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(repo_root / "platform"), str(repo_root)])
        with (tmp_path / f"{tag}.err").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dpn_platform", *arguments],
                env={**os.environ, "PYTHONPATH": path},
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
