"""What Ray's workers raise, told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn_platform.cli import main
from dpn_platform.config.errors import DpnError
from dpn_platform.services.worker_errors import essence, is_fault_of_code, is_from_ray

#: as Ray Data 2.60 prints what a worker's function raised
PAGES = """ray::MapWorker(MapBatches(A)).submit() (pid=31409, ip=127.0.0.1)
  File "rd.py", line 12, in __call__
    return t.foo
           ^^^^^
{raised}

The above exception was the direct cause of the following exception:

ray::MapWorker(MapBatches(A)).submit() (pid=31409, ip=127.0.0.1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
To change retry attempts, configure `ray.data.DataContext.get_current()`: (`retried_io_errors` for I/O)"""


class RayTaskError(Exception):
    """Stands for Ray's: a class of its package."""

    __module__ = "ray.exceptions"


def raised_by_a_worker(line: str) -> RayTaskError:
    return RayTaskError(PAGES.format(raised=line))


def test_the_first_exception_is_the_cause() -> None:
    error = raised_by_a_worker("AttributeError: 'Table' object has no attribute 'foo'")
    assert essence(error) == "AttributeError: 'Table' object has no attribute 'foo'"
    assert essence(raised_by_a_worker("dpn_platform.config.errors.DpnError: x.jpg: no picture")) == "x.jpg: no picture"
    assert essence(ValueError("two\n lines")) == "ValueError: two lines"
    assert essence(DpnError("said")) == "said"


def test_faults_of_the_code_are_told_from_what_another_run_may_not_meet() -> None:
    assert is_fault_of_code(raised_by_a_worker("ModuleNotFoundError: No module named 'x'"))
    assert is_fault_of_code(KeyError("a"))
    assert is_fault_of_code(DpnError("run a failed on worker 0: TypeError: f() got an unexpected keyword argument"))
    assert not is_fault_of_code(raised_by_a_worker("OSError: no space"))
    assert not is_fault_of_code(DpnError("train.lr: must be above 0"))
    assert not is_from_ray(ValueError("a"))


def test_the_command_line_says_it_in_one_line_and_keeps_the_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised_by_a_worker("TypeError: wrong")

    monkeypatch.setenv("DPN_HOME", str(tmp_path))
    monkeypatch.setattr(main, "build_app", lambda: fail)
    assert main.run(["train"]) == main.EXIT_WORKER_FAILED
    said = capsys.readouterr().err
    assert said.startswith("dpn: error: a Ray worker failed: TypeError: wrong; the whole trace: ")
    assert said.count("\n") == 1
    assert "UserCodeException" in Path(said.rpartition(": ")[2].strip()).read_text()


def test_faults_of_ours_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "build_app", lambda: fail)
    with pytest.raises(ZeroDivisionError):
        main.run(["train"])
