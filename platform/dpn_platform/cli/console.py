"""What the verbs print, and where: one JSON document or a table on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

_PIPED_WIDTH = 140  # rich takes 80 columns where there is no terminal
_BAR_WIDTH = 20
_PLAIN_INTERVAL_S = 10.0  # a log file wants a line now and then, not a moving bar

Advance = Callable[..., None]


def stderr_console() -> Console:
    """Console for notes and progress; made on demand so that it follows a redirected `sys.stderr`."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """One line for people, on stderr."""
    stderr_console().print(text, markup=False)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; the verb prints nothing else there."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Plain text on stdout, as it is: what people read or pipe when `--json` is not given."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A readable table on stdout; numbers are right-aligned, cells are printed as they are."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(columns))
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _piped_width()
    console.print(table)


def _piped_width() -> int:
    """What COLUMNS says; some shells export 0 where they do not know."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _PIPED_WIDTH


def print_facts(title: str, facts: Mapping[str, object]) -> None:
    """A two-column list of names and values on stdout."""
    print_table(title, ("", ""), [(name, value) for name, value in facts.items()])


@contextlib.contextmanager
def clean_stdout(enabled: bool = True) -> Iterator[None]:
    """Send everything libraries and their child processes print to stderr while the block runs.

    Ray, MLflow and DeepSpeed write to stdout as they please; `--json` promises one document there. The file
    descriptor is moved, not only `sys.stdout`, because child processes and C code write to the descriptor.
    """
    if not enabled:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Advance]:
    """A progress bar on stderr for work that may take longer than 5 seconds.

    Args:
        description: what is being done.
        total: number of units; None shows a spinner.

    Yields:
        `advance(completed, description=None, total=None)`: sets (not adds) the units done.
    """
    console = stderr_console()
    if not console.is_terminal:
        yield _plain_progress(description, total)
        return
    # A long description takes more lines on a narrow terminal, and leaves the bar and the count as they are.
    description_column = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
    columns = (SpinnerColumn(), description_column, BarColumn(_BAR_WIDTH), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total)

        def advance(completed: float, description: str | None = None, total: float | None = None) -> None:
            bar.update(task, completed=completed, description=description, total=total)

        yield advance


def _plain_progress(description: str, total: float | None) -> Advance:
    """Progress where there is no terminal: a first line, then at most one line every ten seconds."""
    state = {"description": description, "total": total, "printed_at": time.monotonic()}
    note(f"{description} ...")

    def advance(completed: float, description: str | None = None, total: float | None = None) -> None:
        state["description"] = description or state["description"]
        state["total"] = total if total is not None else state["total"]
        if time.monotonic() - float(state["printed_at"] or 0) < _PLAIN_INTERVAL_S:
            return
        state["printed_at"] = time.monotonic()
        of_total = f" of {state['total']:g}" if isinstance(state["total"], int | float) else ""
        note(f"{completed:g}{of_total}: {state['description']}")

    return advance
