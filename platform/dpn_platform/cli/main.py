"""`dpn`: collects the verbs and turns what goes wrong into one line and an exit code.

A verb is one file of this folder with `register(app)`. Importing a verb must stay cheap (no torch, ray or
mlflow outside its function), so that `dpn --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import typer

from dpn_platform.config.errors import DpnError

VERBS = (
    "up",
    "down",
    "status",
    "doctor",
    "data",
    "plan",
    "train",
    "sweep",
    "pipeline",
    "evaluate",
    "score",
    "report",
    "study",
    "flops",
    "submit",
)

# What Ctrl-C leaves behind, and how to go on; a verb not named here starts afresh.
TO_CONTINUE = {
    "train": "run the same command to continue",
    "sweep": "run the same command with --resume to continue",
    "pipeline": "run the same command, with the same --slot, to continue",
    "submit": "a submitted job goes on by itself",
}

EXIT_WORKER_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def build_app() -> typer.Typer:
    """The command-line application with every verb registered."""
    app = typer.Typer(
        name="dpn",
        help="Find the accuracy/FLOPs Pareto front of a multimodal LLM.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in VERBS:
        importlib.import_module(f"dpn_platform.cli.{verb}").register(app)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 2 the user's mistake, 130 interrupted.

    Args:
        arguments: without the program's name; default `sys.argv[1:]`. None at all shows the help.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Without standalone mode the code given to typer.Exit comes back as the result (130 after Ctrl-C).
        result = build_app()(args=arguments or ["--help"], prog_name="dpn", standalone_mode=False)
    except DpnError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        result = EXIT_INTERRUPTED
    except Exception as error:
        result = _tell_of_worker(error)
    if result == EXIT_INTERRUPTED:
        print("; ".join(["stopped", *_ways_on(arguments)]), file=sys.stderr)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())


def _ways_on(arguments: Sequence[str]) -> list[str]:
    return [TO_CONTINUE[arguments[0]]] if arguments and arguments[0] in TO_CONTINUE else []


def _refuse(message: str) -> int:
    print("dpn: error: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_USER_ERROR


def _tell_of_worker(error: Exception) -> int:
    """What a Ray worker raised is one line here; anything else is a fault of ours and keeps its traceback."""
    from dpn_platform.services.worker_errors import essence, is_from_ray, keep_trace

    if not is_from_ray(error):
        raise error
    line, trace = essence(error), keep_trace(error)
    _refuse(f"a Ray worker failed: {line}" + (f"; the whole trace: {trace}" if trace else ""))
    return EXIT_WORKER_FAILED


def _refuse_usage(error: typer.TyperException) -> int:
    """One line with the way to the verb's help; a group called without a verb shows that help itself."""
    message = error.format_message()
    if "\n" in message.strip():
        print(message, file=sys.stderr)
        return EXIT_USER_ERROR
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _refuse(message + hint)
