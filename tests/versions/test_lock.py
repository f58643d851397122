"""requirements.lock: one exact version of everything, inside pyproject's ranges, whole, and good on any machine."""

import importlib.metadata
import platform
import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.versions import make_lock
from tests.versions.conftest import applies
from tests.versions.make_lock import LEFT_OUT, LOCK, PYTHONS, TARGETS, Target, merged

A, B, C, D, E, F = TARGETS  # 3.11 x86_64, 3.11 aarch64, 3.12 x86_64, ...


def test_every_requirement_is_locked_inside_its_range(wanted, locked, target):
    found = locked(target)
    for requirement in wanted:
        if requirement.name == "torch" or not applies(requirement, target):
            continue
        versions = found.get(canonicalize_name(requirement.name), [])
        assert len(versions) == 1, f"{requirement} in {target}: {versions}; run `make lock`"
        assert requirement.specifier.contains(versions[0]), f"{requirement}: {versions[0]}; run `make lock`"


def test_one_exact_version_of_each_package(entries, locked, target):
    assert all(re.fullmatch(r"==[\w.]+", str(entry.specifier)) for entry in entries)
    assert [name for name, versions in locked(target).items() if len(versions) != 1] == []


def test_torch_and_its_build_are_the_users(entries):
    assert [entry.name for entry in entries if LEFT_OUT.fullmatch(entry.name)] == []
    assert LEFT_OUT.fullmatch("nvidia-cublas")
    assert not LEFT_OUT.fullmatch("torchmetrics")


def test_lines_name_no_place_to_get_them_from(entries):
    text = LOCK.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-|--hash| @ ", text, re.MULTILINE)
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)


def test_supported_pythons_are_the_projects(project):
    asked = Requirement(f"python{project['project']['requires-python']}").specifier
    assert [minor for minor in range(8, 20) if asked.contains(f"3.{minor}.1")] == [int(one[2:]) for one in PYTHONS]


def test_the_projects_ranges_end(wanted):
    """What a later major version brings was not tested."""
    open_ended = [str(one) for one in wanted if not re.search(r"<|==|~=", str(one.specifier))]
    assert open_ended == []


def test_lock_is_in_the_package(project):
    assert LOCK.parent.name == "dpn_platform"
    assert LOCK.name in project["tool"]["setuptools"]["package-data"]["dpn_platform"]


def test_the_tree_is_whole(wanted, locked):
    """What the locked packages need is locked as well, as far as they are installed in the locked version."""
    here = Target("{}.{}".format(*sys.version_info), platform.machine())
    if here not in TARGETS:
        pytest.skip("not a supported environment")
    found = locked(here)
    todo = [requirement for requirement in wanted if requirement.name != "torch"]
    seen = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, str(requirement)) in seen or LEFT_OUT.fullmatch(name):
            continue
        seen.add((name, str(requirement)))
        assert name in found, f"{requirement} is not in the lock"
        assert requirement.specifier.contains(found[name][0], prereleases=True), f"{requirement}: {found[name]}"
        if installed(name) != found[name][0]:
            continue
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if any(applies(needed, here, extra) for extra in ("", *requirement.extras)):
                todo.append(needed)
    assert len({name for name, _ in seen}) > 100


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.parametrize(
    "versions",
    [
        dict.fromkeys(TARGETS, "1"),
        {A: "1", B: "1", C: "2", D: "2", E: "2", F: "2"},
        {A: "1", C: "1", E: "1", B: "2", D: "2", F: "2"},
        {A: "1"},
        {A: "1", B: "2", C: "2", D: "1", E: "3", F: "2"},
        {A: "1", D: "1"},
        {A: "1", B: "1", C: "1"},
    ],
)
def test_markers_give_each_environment_its_own_version(versions):
    lines = merged({target: {"one": versions[target]} if target in versions else {} for target in TARGETS})
    for target in TARGETS:
        chosen = [str(one.specifier)[2:] for one in map(Requirement, lines) if applies(one, target)]
        assert chosen == ([versions[target]] if target in versions else [])


def test_what_is_equal_everywhere_has_no_marker():
    resolved = {target: {"a": "1", "b": "2" if target.python == "3.11" else "3"} for target in TARGETS}
    assert merged(resolved) == [
        "a==1",
        "b==2 ; python_version == '3.11'",
        "b==3 ; python_version == '3.12' or python_version == '3.13'",
    ]


def test_uv_asks_pips_index_and_the_file_does_not_name_it(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://name:word@index.example.org/simple")
    monkeypatch.setattr(make_lock, "environ", environment := {"PIP_INDEX_URL": "https://index.example.org/simple"})
    make_lock.use_pips_index()
    assert environment["UV_DEFAULT_INDEX"] == "https://index.example.org/simple"
    environment["UV_DEFAULT_INDEX"] = "https://other.example.org"
    make_lock.use_pips_index()
    assert environment["UV_DEFAULT_INDEX"] == "https://other.example.org"
