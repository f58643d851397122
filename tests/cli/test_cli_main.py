"""`dpn` itself: verbs, exit codes, one-line refusals, and a start that loads no framework."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dpn_platform.cli import main
from dpn_platform.config.errors import DpnError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "transformers", "deepspeed", "mlflow", "boto3", "pyarrow", "optuna", "plotly", "matplotlib")
PUBLIC_VERBS = {
    "pipeline",
    "up",
    "down",
    "status",
    "doctor",
    "data",
    "plan",
    "train",
    "sweep",
    "evaluate",
    "score",
    "report",
    "study",
    "flops",
    "submit",
}


def python(*arguments, **environment):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=ROOT, timeout=300)


@pytest.fixture
def use_verb(monkeypatch):
    """Puts one verb in the place of all others."""

    def use(function):
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command("train")(function)
        app.callback()(lambda: None)
        monkeypatch.setattr(main, "build_app", lambda: app)

    return use


def test_every_public_verb_is_registered():
    commands = typer.main.get_command(main.build_app()).commands
    assert set(commands) == PUBLIC_VERBS
    assert all(command.help for command in commands.values())


def test_help_loads_no_framework():
    done = python("-c", "import sys; from dpn_platform.cli.main import run; run(['--help']); print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded.isdisjoint(HEAVY)


def test_help_takes_less_than_a_second_of_processor_time():
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-m", "dpn_platform", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Measured: 0.3 s. Processor time, not the clock: other tests may be running.
    assert min(seconds() for _ in range(3)) < 1.0


def test_no_arguments_show_the_help(capsys):
    assert main.run([]) == 0
    assert "Usage: dpn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["pln"], ["No such command 'pln'", "plan"]),
        (["plan"], ["Missing argument", "dpn plan --help"]),
        (["plan", "x.yaml", "--jsn"], ["--jsn", "--json"]),
        (["plan", "x.yaml"], ["x.yaml: no such file"]),
        (["train", "x.yaml"], ["x.yaml: no such file"]),
        (["submit", "data", "x.yaml"], ["'data' cannot be submitted", "train, sweep"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, parts):
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dpn: error: ")
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err


def test_refusal_of_several_lines_becomes_one(use_verb, capsys):
    def train():
        raise DpnError("first\n  second")

    use_verb(train)
    assert main.run(["train"]) == 2
    assert capsys.readouterr().err == "dpn: error: first second\n"


def test_interrupt_is_exit_code_130_with_the_way_on(use_verb, capsys):
    def train():
        raise KeyboardInterrupt

    use_verb(train)
    assert main.run(["train"]) == 130
    assert capsys.readouterr().err.strip() == "stopped; run the same command to continue"
    assert "--resume" in main.TO_CONTINUE["sweep"]


def test_exit_code_of_a_verb_is_kept(use_verb):
    def train():
        raise typer.Exit(1)

    use_verb(train)
    assert main.run(["train"]) == 1


def test_bug_of_ours_keeps_its_traceback(use_verb):
    def train():
        raise RuntimeError("a bug")

    use_verb(train)
    with pytest.raises(RuntimeError, match="a bug"):
        main.run(["train"])


def test_module_is_the_program():
    done = python("-m", "dpn_platform", "plan", "absent.yaml", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "dpn: error: absent.yaml: no such file\n"


def test_plan_prints_one_json_document():
    done = python("-m", "dpn_platform", "plan", "jobs/configs/demo-train.yaml", "model.base=tiny", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "run"
