"""The console: stdout carries the result and nothing else."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from dpn_platform.cli import console


def test_print_json_writes_one_document_to_stdout(capsys):
    console.print_json({"name": "é", "front": [1, 2.5, None]})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"name": "é", "front": [1, 2.5, None]}
    assert captured.err == ""


def test_print_json_refuses_what_is_no_json():
    with pytest.raises(ValueError, match="JSON"):
        console.print_json({"loss": float("nan")})


def test_clean_stdout_diverts_python_children_and_descriptors():
    program = (
        "import os, subprocess\n"
        "from dpn_platform.cli.console import clean_stdout, print_json\n"
        "with clean_stdout():\n"
        "    print('from python', flush=True)\n"
        "    os.write(1, b'from C\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n"
        "print_json({'a': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_env(), check=True)
    assert json.loads(done.stdout) == {"a": 1}
    assert all(text in done.stderr for text in ("from python", "from C", "from a child"))


def test_clean_stdout_restores_stdout_after_an_error(capfd):
    with pytest.raises(RuntimeError), console.clean_stdout():
        raise RuntimeError
    print("back")
    assert capfd.readouterr().out == "back\n"


def test_tables_print_text_as_it_is(capsys):
    console.print_table("t", ("name", "value"), [("[bold]a[/bold]", 0.123456), ("s3://dpn/x", 2.0)])
    out = capsys.readouterr().out
    assert "[bold]a[/bold]" in out
    assert "0.1235" in out
    assert "s3://dpn/x" in out


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("200", 200), (None, 140), ("0", 140), ("wide", 140)])
def test_a_piped_table_is_as_wide_as_columns_says(capsys, monkeypatch, columns, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    console.print_table("t", ("name", "value"), [("x" * 500, "y")])
    assert max(map(len, capsys.readouterr().out.splitlines())) == width


def test_progress_without_a_terminal_prints_lines_to_stderr(capsys, monkeypatch):
    monkeypatch.setattr(console, "_PLAIN_INTERVAL_S", 0.0)
    with console.progress("counting", 4) as advance:
        advance(2)
        advance(3, "still counting", 5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["counting ...", "2 of 4: counting", "3 of 5: still counting"]


def test_progress_is_quiet_between_intervals(capsys):
    with console.progress("counting", 1000) as advance:
        for done in range(1000):
            advance(done)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_narrow_terminal_keeps_the_count_beside_a_long_description(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr_console", lambda: Console(file=screen, width=60, force_terminal=True))
    with console.progress("training", 120) as advance:
        advance(40, "loss 1.234, keeps 42%, 31.2 samples/s, 2.41k tokens/s, 12 min left")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).split("\r")[-1]
    assert " 40/120 " in last
    assert "12 min left" in " ".join(last.split())


def _env():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", *sys.path])}
