"""The tree is the design's: the rooms exist, and no others; `platform/` shadows nothing."""

import os
import platform
import subprocess
import sys

import pytest

PLATFORM_ROOMS = {
    "benchmarks",
    "cli",
    "config",
    "data",
    "demo",
    "evaluation",
    "pipelines",
    "planning",
    "reports",
    "services",
    "storage",
    "sweeps",
    "tracking",
    "training",
}
MODEL_ROOMS = {"assets", "attention", "bases", "cost", "methods", "objects", "processing", "proposals", "weights"}
MODEL_FILES = {"cache.py", "decoder.py", "generation.py", "modeling.py", "outputs.py", "packing.py"}
TOP_LEVEL = {
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "dpn_model",
    "infra",
    "jobs",
    "platform",
    "pyproject.toml",
    "tests",
}
TOP_LEVEL_ALLOWED = {"docs"}
#: folders of tests that look at more than one room
ACROSS_ROOMS = {"architecture", "benchmarks", "e2e", "infra", "integration", "parity", "versions"}
#: folders of tests that are not called as what they test; tests/benchmarks measures speed
OTHERWISE_NAMED = {
    "model": "dpn_model",
    "model/families": "dpn_model/bases",
    "scored_benchmarks": "platform/dpn_platform/benchmarks",
}


def folders(path):
    return {item.name for item in path.iterdir() if item.is_dir() and not item.name.startswith((".", "__"))}


def test_rooms_of_the_platform_are_the_designs(root):
    assert folders(root / "platform/dpn_platform") == PLATFORM_ROOMS


def test_rooms_of_the_model_are_the_designs(root):
    assert folders(root / "dpn_model") <= MODEL_ROOMS
    assert {path.name for path in (root / "dpn_model").glob("*.py")} >= MODEL_FILES


def test_top_level_is_the_designs(root):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: local files cannot be told from the tree's own")
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    visible = {line.split("/")[0] for line in listed if not line.startswith(".")}
    assert visible >= TOP_LEVEL
    assert visible <= TOP_LEVEL | TOP_LEVEL_ALLOWED


def test_every_room_is_a_package(root):
    for package in ("platform/dpn_platform", "dpn_model"):
        missing = [
            str(folder.relative_to(root))
            for folder in {path.parent for path in (root / package).rglob("*.py")}
            if not (folder / "__init__.py").is_file()
        ]
        assert missing == []
        assert (root / package / "py.typed").is_file()


def test_platform_is_a_source_root_and_no_package(root):
    assert list((root / "platform").glob("*.py")) == []
    assert folders(root / "platform") - {name for name in folders(root / "platform") if name.endswith(".egg-info")} == {
        "dpn_platform"
    }


def test_standard_library_platform_wins(root):
    assert platform.__file__.startswith(os.path.dirname(os.__file__))
    done = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__, platform.system())"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(os.path.dirname(os.__file__))


def test_tests_mirror_the_packages(root):
    names = [path.name for path in (root / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), "test files need unique names"
    assert list((root / "tests").rglob("__init__.py")) == []
    mirrored = set()
    for folder in {path.parent.relative_to(root / "tests") for path in (root / "tests").rglob("test_*.py")}:
        if folder.parts and folder.parts[0] not in ACROSS_ROOMS:
            top, below = (
                OTHERWISE_NAMED.get(folder.parts[0], f"platform/dpn_platform/{folder.parts[0]}"),
                folder.parts[1:],
            )
            room = root / OTHERWISE_NAMED.get(folder.as_posix(), "/".join((top, *below)))
            assert (room / "__init__.py").is_file(), f"tests/{folder} mirrors no package"
            mirrored.add(room.relative_to(root).as_posix())
    assert mirrored >= {f"platform/dpn_platform/{room}" for room in PLATFORM_ROOMS}, "a room without tests"
