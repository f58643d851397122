"""Joins answers to annotations, and says precisely what does not fit: missing, unknown and repeated ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from dpn_platform.benchmarks.contract import Inputs, Row
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.files.recognition import owner_of_answers
from dpn_platform.config.errors import DpnError

_SHOWN = 3
T = TypeVar("T")


def pair(
    answers: Sequence[Answer],
    answer_key: Callable[[Answer], Hashable],
    rows: Sequence[T],
    row_key: Callable[[T], Hashable],
    inputs: Inputs,
    title: str,
) -> list[tuple[Answer, T]]:
    """Every annotation with its answer, in the annotations' order; equal keys are joined in order.

    Raises:
        DpnError: an annotation without answer, an answer without annotation, or more answers than annotations.
    """
    pairs = pair_known(answers, answer_key, rows, row_key, inputs, title)
    missing = [row_key(row) for answer, row in pairs if answer is None]
    if missing:
        raise DpnError(
            f"{inputs.predictions}: no answer to {len(missing)} of the {len(rows)} questions of {inputs.annotations} "
            f"({shown(missing)}); {len(answers)} answers found, {len(rows)} needed"
        )
    return [(answer, row) for answer, row in pairs if answer is not None]


def pair_known(
    answers: Sequence[Answer],
    answer_key: Callable[[Answer], Hashable],
    rows: Sequence[T],
    row_key: Callable[[T], Hashable],
    inputs: Inputs,
    title: str,
) -> list[tuple[Answer | None, T]]:
    """As `pair`, for benchmarks whose official program takes an absent answer: the annotation comes with None.

    Raises:
        DpnError: an answer without annotation, more answers than annotations, or the annotations in place of answers.
    """
    _refuse_lost_zeros(answers, [row_key(row) for row in rows], inputs)
    waiting: dict[Hashable, list[Answer]] = defaultdict(list)
    for answer in answers:
        waiting[answer_key(answer)].append(answer)
    joined: list[tuple[Answer | None, T]] = []
    known = set()
    for row in rows:
        key = row_key(row)
        known.add(key)
        queue = waiting.get(key)
        joined.append((queue.pop(0) if queue else None, row))
    _refuse_unknown([key for key in waiting if key not in known], answers, rows, inputs, title)
    repeated = [key for key, queue in waiting.items() if queue]
    if repeated:
        raise DpnError(
            f"{inputs.predictions}: {len(repeated)} questions are answered more than once ({shown(repeated)}); "
            f"{len(answers)} answers found, {len(rows)} needed"
        )
    if joined and all(answer is not None and _repeats(answer.record, row) for answer, row in joined):
        raise DpnError(
            f"{inputs.predictions}: its {len(joined)} records are those of {inputs.annotations}, question and answer: "
            "these are annotations and no answers of a model"
        )
    return joined


def _repeats(record: Row, row: object) -> bool:
    """Whether a record says nothing that the annotation does not say, with another name of the file or form."""
    return (
        isinstance(row, Mapping)
        and {"question", "answer"} <= set(record)
        and all(str(row.get(column)) == str(value) for column, value in record.items())
    )


def shown(keys: Sequence[Hashable]) -> str:
    """The first few keys, for a message."""
    names = ["/".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in keys[:_SHOWN]]
    return ("first: " if len(keys) > _SHOWN else "") + ", ".join(f"'{name}'" for name in names)


def _refuse_lost_zeros(answers: Sequence[Answer], keys: Sequence[Hashable], inputs: Inputs) -> None:
    """Names ids that went through a program which takes texts of digits for numbers.

    Raises:
        DpnError: annotated ids begin with a zero, and the answers have them without.
    """
    padded = [key for key in keys if isinstance(key, str) and key.startswith("0") and key.isdigit() and len(key) > 1]
    if not padded:
        return
    answered = {answer.key for answer in answers}
    lost = [key for key in padded if key not in answered and (key.lstrip("0") or "0") in answered]
    if lost:
        raise DpnError(
            f"{inputs.predictions}: the ids are numbers here and texts with leading zeros in {inputs.annotations} "
            f"({shown(lost)}): without the zeros it cannot be told which question is meant; write the ids as texts"
        )


def _refuse_unknown(
    unknown: Sequence[Hashable], answers: Sequence[Answer], rows: Sequence[T], inputs: Inputs, title: str
) -> None:
    if not unknown:
        return
    other = owner_of_answers([(answer.key, answer.prompt) for answer in answers])
    if other and other != title:
        raise DpnError(
            f"{inputs.predictions}: these answers look like {other}'s, not {title}'s ({shown(unknown)} is not in "
            f"{inputs.annotations})"
        )
    total = len({answer.key for answer in answers})
    whole = " none of them is: the annotations are of another split or benchmark;" if len(unknown) >= total else ""
    raise DpnError(
        f"{inputs.predictions}: {len(unknown)} answered questions are not in {inputs.annotations} ({shown(unknown)});"
        f"{whole} {len(answers)} answers found, {len(rows)} questions annotated"
    )
