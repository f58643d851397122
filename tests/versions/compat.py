"""The model's tests with the oldest and the newest torch and transformers that pyproject.toml allows: `make compat`.

Each pair gets an environment of its own, which is thrown away; it holds what dpn_model needs and pytest, nothing else.
Everything but the tried packages has the locked version. Not a part of `make test`: each pair takes minutes, and a
torch of another version may be gigabytes of CUDA packages.
Other pairs: `make compat ARGS="--torch 2.13.0 --transformers 5.20.0 5.24.0"`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "platform/dpn_platform/requirements.lock"
TRIED = ("transformers", "torch")
# What transformers binds to its own version; the lock's fits the newest only.
FOLLOWING = ("tokenizers", "huggingface-hub")
NEEDED = ("tokenizers", "sentencepiece", "protobuf", "safetensors", "numpy", "pillow", "pytest", "hypothesis")
INSTALLED = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(name) for name in sys.argv[1:]]))"
TESTS = ("tests/model",)


@dataclass(frozen=True)
class Outcome:
    """What one pair of versions came to; `passed` and `failed` are counts of tests."""

    transformers: str
    torch: str
    passed: int
    failed: int
    seconds: float


def ends(name: str) -> tuple[str, str]:
    """The oldest and the newest allowed version as pip's requirements: `torch==2.13`, `torch>=2.13,<2.14`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = next(line for line in project["dependencies"] if re.match(rf"{name}\b", line))
    oldest = re.search(r">=([\d.]+)", allowed)
    if oldest is None or "<" not in allowed:
        sys.exit(f"make compat: {allowed!r} in pyproject.toml has no two ends")
    return f"{name}=={oldest[1]}", allowed


def constraints() -> str:
    """The lock without what a pair of versions brings."""
    free = {*TRIED, *FOLLOWING}
    lines = LOCK.read_text().splitlines()
    return "\n".join(line for line in lines if line.partition("==")[0] not in free) + "\n"


def try_pair(pair: dict[str, str], paths: list[str], folder: Path) -> Outcome:
    """Installs a pair in `folder` and runs the tests.

    Args:
        pair: name -> requirement, of the packages in `TRIED`.
    """
    print(f"compat: installing {' and '.join(pair.values())}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin/python")
    (folder / "constraints.txt").write_text(constraints())
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(folder / "constraints.txt"), *pair.values(), *NEEDED], check=True)
    listed = subprocess.run([python, "-c", INSTALLED, *TRIED], check=True, capture_output=True, text=True).stdout
    versions = dict(zip(TRIED, json.loads(listed), strict=True))
    print(f"compat: testing with {versions}", flush=True)
    started = time.monotonic()
    report = folder / "report.xml"
    # The tests' own settings are those of the platform, which is not installed here.
    confined = ["-p", "no:cacheprovider", f"--confcutdir={ROOT / 'tests/model'}", f"--junitxml={report}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "pytest", "-q", *confined, *paths]
    subprocess.run(command, cwd=ROOT, env=environment, check=False)
    passed, failed = counts(report)
    return Outcome(versions["transformers"], versions["torch"], passed, failed, time.monotonic() - started)


def counts(report: Path) -> tuple[int, int]:
    """Passed and failed tests of a JUnit report; one that is not there, or empty, counts as a failure."""
    if not report.exists():
        return 0, 1
    suite = ET.parse(report).getroot().find("testsuite")
    number = {name: int(suite.get(name, 0)) if suite is not None else 0 for name in ("tests", "skipped")}
    failed = sum(int(suite.get(name, 0)) for name in ("failures", "errors")) if suite is not None else 0
    passed = number["tests"] - number["skipped"] - failed
    return passed, failed if passed else max(failed, 1)


def table(outcomes: list[Outcome]) -> str:
    """One line per pair."""
    rows = [("transformers", "torch", "passed", "failed", "time")]
    for one in outcomes:
        minutes, seconds = divmod(round(one.seconds), 60)
        rows.append((one.transformers, one.torch, str(one.passed), str(one.failed), f"{minutes}m{seconds:02d}"))
    return "\n".join(f"{a:14}{b:14}{c:>8}{d:>8}{e:>8}" for a, b, c, d, e in rows)


def pairs(given: dict[str, list[str]]) -> list[dict[str, str]]:
    """The pairs to try: oldest with oldest and newest with newest, or all of the versions given."""
    if not any(given.values()):
        return [dict(zip(TRIED, pair, strict=True)) for pair in zip(*map(ends, TRIED), strict=True)]
    wanted = {name: [f"{name}=={version}" for version in given[name]] or [*ends(name)] for name in TRIED}
    return [{"transformers": one, "torch": other} for one in wanted["transformers"] for other in wanted["torch"]]


def main() -> None:
    """Prints the table; exits with 1 when a test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transformers", nargs="+", default=[], metavar="VERSION")
    parser.add_argument("--torch", nargs="+", default=[], metavar="VERSION")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), metavar="PATH")
    known = parser.parse_args()
    outcomes = []
    for pair in pairs({name: getattr(known, name) for name in TRIED}):
        with tempfile.TemporaryDirectory(prefix="dpn-compat-") as folder:
            outcomes.append(try_pair(pair, known.tests, Path(folder)))
    print(table(outcomes))
    sys.exit(any(one.failed for one in outcomes))


if __name__ == "__main__":
    main()
