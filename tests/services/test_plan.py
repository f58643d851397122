"""The plan: credentials random and private, servers told only what is theirs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dpn_platform.services.home import Home
from dpn_platform.services.plan import Plan, load_credentials, load_plan, source_roots
from dpn_platform.services.ports import LOOPBACK
from dpn_platform.services.servers import MLFLOW, RAY, SERVERS


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    names = [name for server in SERVERS for name in server.port_names]
    return Plan(home, {name: 21000 + i for i, name in enumerate(names)}, *load_credentials(home))


def test_credentials_are_random_private_and_stay(tmp_path: Path) -> None:
    first, other = Home(tmp_path / "a"), Home(tmp_path / "b")
    assert load_credentials(first) == load_credentials(first) != load_credentials(other)
    for path in (tmp_path / "a" / "s3.json", tmp_path / "a" / "ray.token"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "a" / "ray.token").read_text() != (tmp_path / "b" / "ray.token").read_text()


def test_damaged_credentials_are_drawn_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    before = load_credentials(home)
    (tmp_path / "s3.json").write_text("{")
    assert load_credentials(home) != before
    assert load_credentials(home) == load_credentials(home)


def test_plan_comes_back_from_the_home(plan: Plan) -> None:
    assert load_plan(plan.home) is None
    (plan.home.path / "ports.json").write_text(json.dumps(plan.ports))
    assert load_plan(plan.home) == plan
    assert plan.secret_key not in repr(plan)


def test_no_secret_on_a_command_line_and_no_address_but_loopback(plan: Plan) -> None:
    token = plan.home.ray_token.read_text()
    for server in SERVERS:
        words = " ".join(server.command(plan))
        assert LOOPBACK in words
        assert "0.0.0.0" not in words
        assert not any(secret in words for secret in (plan.access_key, plan.secret_key, token))
        used = [str(plan.ports[name]) for name in server.port_names]
        settings = words + str(server.env(plan))
        assert all(port in settings for port in used)


def test_ports_of_the_three_servers_are_distinct_names() -> None:
    names = [name for server in SERVERS for name in server.port_names]
    assert len(names) == len(set(names))


def test_servers_do_not_inherit_the_callers_other_services(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "foreign")
    for server in SERVERS:
        assert "foreign" not in server.env(plan).values()
    assert MLFLOW.env(plan)["AWS_SECRET_ACCESS_KEY"] == plan.secret_key
    ray_env = RAY.env(plan)
    assert ray_env["AWS_ENDPOINT_URL"] == plan.url("s3")
    assert ray_env["RAY_AUTH_TOKEN_PATH"] == str(plan.home.ray_token)
    assert "RAY_ADDRESS" not in ray_env


def test_another_s3_address_outdates_all_servers(plan: Plan) -> None:
    moved = Plan(plan.home, {**plan.ports, "s3": 29999}, plan.access_key, plan.secret_key)
    elsewhere = Plan(plan.home, {**plan.ports, "mlflow": 29998}, plan.access_key, plan.secret_key)
    for server in SERVERS:
        assert plan.setup_digest(server.port_names) != moved.setup_digest(server.port_names)
        changed = plan.setup_digest(server.port_names) != elsewhere.setup_digest(server.port_names)
        assert changed is (server is MLFLOW)


def test_source_roots_hold_both_packages(repo_root: Path) -> None:
    roots = [Path(root) for root in source_roots()]
    assert any((root / "dpn_platform" / "services").is_dir() for root in roots)
    assert any((root / "dpn_model").is_dir() for root in roots)
    assert all(root.is_absolute() for root in roots)
