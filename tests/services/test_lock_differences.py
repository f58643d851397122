"""What `dpn doctor` says of an environment that is not the locked one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from dpn_platform.services.diagnosis import Finding, diagnose
from dpn_platform.services.lock import Difference, compare, locked_versions
from dpn_platform.services.packages import Package, needed_packages

LOCKED = {"transformers": "5.24.0", "pandas": "3.1.1", "urllib3": "2.8.0", "pytest": "9.2.0"}


@dataclass
class Installed:
    name: str
    version: str

    @property
    def metadata(self) -> dict[str, str]:
        return {"Name": self.name}


@pytest.fixture
def found(plain_environment: pytest.MonkeyPatch, tmp_path: Path):
    """`found(name=version, ...)`: the findings in an environment with these packages, by name."""

    def look(**versions: str) -> dict[str, Finding]:
        here = [Installed(name, version) for name, version in versions.items()]
        plain_environment.setattr("importlib.metadata.distributions", lambda: here)
        plain_environment.setattr("dpn_platform.services.diagnosis.locked_versions", lambda: LOCKED)
        packages = [
            Package("transformers", versions["transformers"], ">=5.17,<5.25", versions["transformers"] < "5.25"),
            Package("pandas", versions["pandas"], ">=2.2,<4", True),
        ]
        plain_environment.setattr("dpn_platform.services.diagnosis.needed_packages", lambda: packages)
        return {finding.name: finding for finding in diagnose(tmp_path, imports=False).findings}

    return look


def test_locked_environment_is_said_to_be_tested(found) -> None:
    findings = found(transformers="5.24.0", pandas="3.1.1", urllib3="2.8.0", unrelated="1")
    assert (findings["lock"].state, findings["lock"].detail) == ("ok", "the tested versions of all 3 packages")
    assert findings["transformers"].detail == "5.24.0"


def test_transformers_inside_the_range_was_tested(found) -> None:
    findings = found(transformers="5.23.0", pandas="3.1.1")
    assert findings["transformers"].state == "ok"
    assert findings["transformers"].detail == "5.23.0; the lock has 5.24.0, tested is >=5.17,<5.25"
    assert findings["lock"].state == "ok"


def test_transformers_outside_the_range_was_not(found) -> None:
    findings = found(transformers="5.25.0", pandas="3.1.1")
    assert (findings["transformers"].state, findings["transformers"].mend) == ("warn", "make setup")
    assert "transformers 5.25.0 (lock: 5.24.0)" in findings["lock"].detail


def test_other_versions_were_not_tested_though_allowed(found) -> None:
    lock = found(transformers="5.24.0", pandas="2.3.0", URLLIB3="2.7.0")["lock"]
    assert lock.state == "warn"
    assert lock.detail == (
        "2 of 3 packages in a version that was not tested: pandas 2.3.0 (lock: 3.1.1), urllib3 2.7.0 (lock: 2.8.0)"
    )
    assert lock.mend.startswith("make setup, or pip install --no-deps -r /")
    assert Path(lock.mend.rpartition(" ")[2]).is_file()


def test_first_of_two_on_the_path_counts_and_names_are_compared_as_pip_does(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Installed("Ruamel_YAML", "2"), Installed("ruamel.yaml", "1")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: here)
    assert compare({"ruamel-yaml": "3"}) == (1, [Difference("ruamel-yaml", "2", "3")])


def test_lock_has_every_requirement_but_torch() -> None:
    locked = locked_versions()
    needed = {package.name for package in needed_packages()}
    assert needed - set(locked) == {"torch"}
    assert "torch" not in locked
    assert [name for name in locked if name != canonicalize_name(name)] == []
