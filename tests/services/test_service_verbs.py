"""`dpn up`, `down`, `status`, `doctor`: readable for people, one document for machines."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from dpn_platform.cli import doctor, down, status, up
from dpn_platform.services.diagnosis import Diagnosis, Finding


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    for verb in (up, down, status, doctor):
        verb.register(app)
    return app


def test_up_status_down_as_json(app: typer.Typer, fake_servers) -> None:
    runner = CliRunner()
    started = json.loads(runner.invoke(app, ["up", "--json"], catch_exceptions=False).stdout)
    assert started["state"] == "up"
    assert started["env_file"] == str(fake_servers.home / "env.sh")
    assert {"s3_url", "mlflow_url", "ray_address"} <= set(started["endpoints"])
    secret = json.loads((fake_servers.home / "s3.json").read_text())["identities"][0]["credentials"][0]["secretKey"]
    assert secret not in json.dumps(started)
    now = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert [service["state"] for service in now["services"]] == ["up", "up"]
    stopped = json.loads(runner.invoke(app, ["down", "--json"]).stdout)
    assert stopped == {"home": str(fake_servers.home), "stopped": ["s3", "web"]}


def test_people_get_a_table_and_what_happened(app: typer.Typer, fake_servers) -> None:
    runner = CliRunner()
    assert "down" in runner.invoke(app, ["status"]).stdout
    result = runner.invoke(app, ["up"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "s3: up at http://127.0.0.1:" in result.stderr
    assert "stopped: s3, web" in runner.invoke(app, ["down"]).stdout
    assert "nothing was running" in runner.invoke(app, ["down"]).stdout


@pytest.mark.parametrize(("state", "exit_code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor_exits_with_one_when_unusable(app: typer.Typer, monkeypatch, state: str, exit_code: int) -> None:
    mend = "" if state == "ok" else "make setup"
    diagnosis = Diagnosis((Finding("package", "torch", state, "found", mend),))
    monkeypatch.setattr("dpn_platform.services.diagnosis.diagnose", lambda **_: diagnosis)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == exit_code
    assert json.loads(result.stdout) == diagnosis.to_json()
    table = CliRunner().invoke(app, ["doctor"])
    assert "torch" in table.stdout
    assert ("torch: make setup" in table.stderr) is (state != "ok")
