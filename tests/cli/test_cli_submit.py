"""`dpn submit`: what is refused before anything travels, and the command that does travel."""

from pathlib import Path

import pytest

from dpn_platform.cli.submit import build_entrypoint, require_sent
from dpn_platform.config.errors import DpnError

ROOT = Path(__file__).parents[2]


def test_entrypoint_is_relative_and_quoted():
    command = build_entrypoint(
        "sweep", ROOT / "jobs/configs/demo-sweep.yaml", ["method.experts=[1x1, 2x2]"], ROOT, resume=True
    )
    expected = "python jobs/sweep.py --config jobs/configs/demo-sweep.yaml 'method.experts=[1x1, 2x2]' --resume"
    assert command == expected


@pytest.mark.parametrize(
    ("verb", "config", "message"),
    [
        ("data", "demo-train.yaml", "'data' cannot be submitted; allowed: train, sweep"),
        ("sweep", "demo-train.yaml", "has no section 'sweep'"),
        ("train", "absent.yaml", "no such file"),
    ],
)
def test_what_cannot_run_is_refused_before_it_leaves(verb, config, message):
    with pytest.raises(DpnError, match=message):
        build_entrypoint(verb, ROOT / "jobs/configs" / config, [], ROOT, resume=False)


def test_bad_override_is_refused_before_it_leaves():
    with pytest.raises(DpnError, match="unknown key 'train.stpes'"):
        build_entrypoint("train", ROOT / "jobs/configs/demo-train.yaml", ["train.stpes=3"], ROOT, resume=False)


def test_config_outside_the_checkout_is_refused(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\n")
    with pytest.raises(DpnError, match="lies outside"):
        build_entrypoint("train", config, [], ROOT, resume=False)


def test_installation_without_a_checkout_is_refused(tmp_path):
    with pytest.raises(DpnError, match="is not a checkout"):
        build_entrypoint("train", ROOT / "jobs/configs/demo-train.yaml", [], tmp_path, resume=False)


@pytest.mark.parametrize(
    ("address", "environment", "message"),
    [
        ("127.0.0.1:8265", {}, "write http://HOST:PORT"),
        ("ray://127.0.0.1:10001", {}, "write http://HOST:PORT"),
        ("http://10.0.0.5:8265", {}, "refused without authentication"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_MODE": "disabled"}, "refused without authentication"),
        ("http://10.0.0.5:8265", {"RAY_AUTH_MODE": "token"}, None),
        ("https://ray.example", {}, None),
        ("http://127.0.0.1:8265", {}, None),
    ],
)
def test_addresses(monkeypatch, address, environment, message):
    from dpn_platform.services.job_client import check_address

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if message is None:
        check_address(address)
        return
    with pytest.raises(DpnError, match=message):
        check_address(address)


def test_job_package_leaves_out_what_must_not_travel():
    from dpn_platform.services.job_client import EXCLUDES

    assert {".git", ".venv", ".dpn"} <= set(EXCLUDES)


@pytest.fixture
def checkout(tmp_path):
    """A small checkout with a recipe in every place that Ray leaves behind, and in one that travels."""
    (tmp_path / ".gitignore").write_text("private*.yaml\n/outputs/\n")
    (tmp_path / "jobs" / "configs").mkdir(parents=True)
    (tmp_path / "jobs" / "train.py").touch()
    (tmp_path / "jobs" / "configs" / ".gitignore").write_text("local/\n")
    for name in ("good.yaml", "private.yaml", "tests/mine.yaml", "build/mine.yaml", "local/mine.yaml"):
        (tmp_path / "jobs" / "configs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "jobs" / "configs" / name).write_text("name: mine\n")
    (tmp_path / "jobs" / "configs" / "extending.yaml").write_text("extends: private.yaml\n")
    (tmp_path / "outputs" / "base").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "overrides", "reason"),
    [
        ("good.yaml", [], None),
        ("private.yaml", [], "private.yaml: would not travel .* names jobs/configs/private.yaml"),
        ("extending.yaml", [], "private.yaml: would not travel"),
        ("tests/mine.yaml", [], "jobs/configs/tests is left out of jobs"),
        ("build/mine.yaml", [], "jobs/configs/build is left out of jobs"),
        ("local/mine.yaml", [], "names jobs/configs/local"),
        ("good.yaml", ["model.base=outputs/base"], "outputs/base: would not travel"),
    ],
)
def test_what_would_stay_behind_is_said_before_it_leaves(checkout, config, overrides, reason):
    path = checkout / "jobs" / "configs" / config
    if reason is None:
        require_sent("train", path, overrides, checkout)
        return
    with pytest.raises(DpnError, match=reason):
        require_sent("train", path, overrides, checkout)


def test_a_base_outside_the_checkout_is_the_nodes_own(checkout, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("bases")
    good = checkout / "jobs" / "configs" / "good.yaml"
    for base in (str(elsewhere), f"../../{elsewhere.parent.name}/{elsewhere.name}", "s3://bucket/base"):
        require_sent("train", good, [f"model.base={base}"], checkout)


def test_a_gitignore_that_empties_the_job_is_said(checkout):
    (checkout / ".gitignore").write_text(".*\n")
    with pytest.raises(DpnError, match=r"names \."):
        require_sent("train", checkout / "jobs" / "configs" / "good.yaml", [], checkout)
