"""MM-Vet's judge: the grades file it leaves, and grading with any judge that is plugged in.

The judge's few-shot prompt is the benchmark's own and is not shipped: a judge brings it. Source: spec benchmarks 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dpn_platform.benchmarks.files.fields import TEXT, check_value, list_of, optional, shown_value
from dpn_platform.config.errors import DpnError

_MAX_TRIES = 5
_HOTTER = 0.5
_JUDGES = optional(list_of(TEXT, "a list with the judge's name for each run"))


@dataclass(frozen=True)
class Grades:
    """Grades between 0 and 1: question id -> one per run; and the judges' names, where the file keeps them."""

    runs: dict[str, list[float]]
    judges: frozenset[str]


class Judge(Protocol):
    """A grader: reads one line of the few-shot table and says how correct the prediction is, as a text like `0.5`."""

    name: str

    def __call__(self, question: str, ground_truth: str, prediction: str, temperature: float) -> str:
        """The judge's words, of at most three tokens."""


def grade(judge: Judge, question: str, ground_truth: str, prediction: str) -> tuple[float, str]:
    """One grade and the words it was read from; words that are no grade are asked for again, hotter, then count 0.

    Alternatives in the ground truth (`<AND>`, `<OR>`) are set apart by blanks, as in the official program.
    """
    spaced = ground_truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    words = ""
    for attempt in range(_MAX_TRIES):
        words = judge(question, spaced, prediction, attempt * _HOTTER)
        value = _as_grade(words.split(" ")[0].strip())
        if value is not None:
            return value, words
    return 0.0, words


def is_grades(document: Any) -> bool:
    """Whether a document holds grades rather than answers."""
    if not isinstance(document, Mapping) or not document:
        return False
    return all(
        "score" in value if isinstance(value, Mapping) else not isinstance(value, str) for value in document.values()
    )


def read_grades(uri: str, document: Mapping[str, Any]) -> Grades:
    """The grades of a file: id -> `{score: [...], model: [...]}`, id -> list, or id -> number.

    Raises:
        DpnError: a grade outside 0 to 1, no grade, or another number of runs than the others.
    """
    runs, judges = {}, set()
    for key, entry in document.items():
        found = entry.get("score") if isinstance(entry, Mapping) else entry
        values = found if isinstance(found, list) else [found]
        grades = [_as_grade(value) for value in values]
        if not values or None in grades:
            raise DpnError(
                f"{uri}: the grades of '{key}' are {shown_value(values)}; numbers from 0 to 1 are needed, one per run"
            )
        runs[key] = [value for value in grades if value is not None]
        if isinstance(entry, Mapping):
            check_value(f"{uri}, grades of '{key}'", "model", entry.get("model"), _JUDGES)
            judges |= set(entry.get("model") or ())
    count = len(next(iter(runs.values())))
    odd = next((key for key, values in runs.items() if len(values) != count), None)
    if odd is not None:
        raise DpnError(f"{uri}: '{odd}' has {len(runs[odd])} runs, the first question has {count}")
    return Grades(runs, frozenset(judges))


def _as_grade(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0.0 <= number <= 1.0 else None
