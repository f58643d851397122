"""Who imports whom: import-linter's contracts, and what import-linter cannot see."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODEL_MAY_IMPORT = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "PIL", "dpn_model", "flash_attn"}
CONFINED = {
    "ray": {"data", "training", "sweeps", "evaluation", "services"},
    "deepspeed": {"training"},
    "peft": {"training"},
    "mlflow": {"tracking"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow.fs": {"storage"},
}
ROOMS = sorted(path.parent.name for path in Path(__file__).parents[2].glob("platform/dpn_platform/*/__init__.py"))


def room_of(path):
    return path.relative_to("platform/dpn_platform").parts[0]


def starts_with(name, package):
    return name == package or name.startswith(package + ".")


def run_python(root, code, cwd=None, **variables):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "platform"), str(root)]), **variables}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or root, env=env, timeout=120)


def test_import_linter_keeps_every_contract(root):
    done = run_python(
        root, "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "0 broken" in done.stdout


def test_model_imports_only_what_it_may(product_files, imports_of):
    allowed = MODEL_MAY_IMPORT | set(sys.stdlib_module_names)
    strangers = {
        (str(path), name)
        for path in product_files
        if path.parts[0] == "dpn_model"
        for name in imports_of(path)
        if name.split(".")[0] not in allowed
    }
    assert strangers == set()


@pytest.mark.parametrize("package", CONFINED)
def test_package_is_confined_even_when_imported_late(product_files, imports_of, package):
    users = {
        room_of(path)
        for path in product_files
        if path.parts[0] == "platform" and any(starts_with(name, package) for name in imports_of(path))
    }
    assert users <= CONFINED[package]


def test_jobs_import_the_platform_alone(product_files, imports_of):
    strangers = {
        (str(path), name)
        for path in product_files
        if path.parts[0] == "jobs"
        for name in imports_of(path)
        if name.split(".")[0] not in {*sys.stdlib_module_names, "dpn_platform"}
    }
    assert strangers == set()


def test_nobody_imports_jobs_or_tests(product_files, imports_of):
    found = {
        (str(path), name)
        for path in product_files
        for name in imports_of(path)
        if name.split(".")[0] in ("jobs", "tests")
    }
    assert found == set()


def test_reading_a_config_loads_no_framework(root):
    code = (
        "import sys; from dpn_platform.config.load import load_config; "
        "load_config('jobs/configs/demo-train.yaml'); print(*sys.modules)"
    )
    done = run_python(root, code)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"torch", "ray", "transformers", "mlflow", "boto3", "pyarrow", "deepspeed"})


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("training.entry", {"torch", "transformers", "deepspeed", "ray"}),
        ("training.run", {"transformers", "deepspeed"}),
        ("evaluation.run", {"torch", "transformers"}),
        ("evaluation.runner.actor", {"torch", "transformers"}),
        ("sweeps.study", {"torch", "transformers"}),
    ],
)
def test_who_runs_no_model_loads_none(root, module, heavy):
    """Controllers, drivers and reading tasks are processes of their own, which pay for imports at every start."""
    done = run_python(root, f"import sys, dpn_platform.{module}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert {name.split(".")[0] for name in done.stdout.split()}.isdisjoint(heavy)


IMPORT_ALL = """
import importlib, os, psutil, sys, threading
for name in {modules!r}:
    importlib.import_module(name)
    ours = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert not ours, f"{{name}} starts threads: {{ours}}"
ray = sys.modules.get("ray")
assert not (ray and ray.is_initialized()), "Ray is initialised"
assert not psutil.Process().children(), "a process was started"
"""


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_without_side_effects(root, tmp_path, room):
    """Importing every module of a room prints nothing, and starts or writes nothing."""
    files = sorted((root / "platform/dpn_platform" / room).rglob("*.py"))
    names = [".".join(path.relative_to(root / "platform").with_suffix("").parts) for path in files]
    modules = [name.removesuffix(".__init__") for name in names]
    done = run_python(root, IMPORT_ALL.format(modules=modules), cwd=tmp_path, DPN_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list(tmp_path.iterdir()) == []
