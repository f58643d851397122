"""What VQAv2, TextVQA and VizWiz share: human answers of their layouts, the report, refusal of hidden gold."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dpn_platform.benchmarks.contract import Inputs, QuestionScore, Report, Row
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.files.fields import SCALAR, Kind, either, list_of, object_of
from dpn_platform.benchmarks.prompts import is_missing
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group
from dpn_platform.benchmarks.vqa.metric import Evaluator
from dpn_platform.config.errors import DpnError


def human_answers(row: Row) -> list[str]:
    """The humans' answers of an annotation: texts, or records with `answer`; empty where gold is private.

    Tables hold them as a text with a Python or JSON list in it.
    """
    answers = row.get("answers") or []
    if isinstance(answers, str):
        answers = _listed(answers) or []
    return [str(answer["answer"]) if isinstance(answer, Mapping) else str(answer) for answer in answers]


def _listed(text: str) -> list[Any] | None:
    """The list in a text, empty where a cell is; None: it holds no list."""
    if is_missing(text):
        return []
    with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        found = ast.literal_eval(text)
        return found if isinstance(found, list) else None
    return None


_ANSWERS = list_of(
    either("a text, a number or an object with an answer", SCALAR, object_of("an object", answer=SCALAR)), "a list"
)
#: the field of human answers; null or empty ones are private
HUMAN_ANSWERS = either(
    "a list of texts or of objects with an answer",
    _ANSWERS,
    Kind(
        "a text with such a list",
        lambda value: isinstance(value, str) and _listed(value) is not None,
        lambda value: _ANSWERS.parts(_listed(value)),
    ),
)


def refuse_private_gold(rows: Sequence[Row], inputs: Inputs, title: str, server_split: str) -> None:
    """Names a test split, which has no answers to compare with.

    Raises:
        DpnError: an annotation has no human answers.
    """
    without = [row for row in rows if not human_answers(row)]
    if without:
        raise DpnError(
            f"{inputs.annotations}: {len(without)} of {len(rows)} questions have no human answers: this is {title}'s "
            f"{server_split}, whose answers are private. Write the server's file with --submission FILE, or score the "
            "validation split"
        )


def soft_report(
    pairs: Sequence[tuple[Answer, Row]],
    evaluator: Evaluator,
    inputs: Inputs,
    groups: Mapping[str, str],
    **protocol: Any,
) -> Report:
    """The report of a soft accuracy.

    Args:
        pairs: answers with their annotations.
        evaluator: one of `vqa_metric`.
        inputs: of the scoring.
        groups: name of a sub-score -> column of the annotations it is grouped by.
        protocol: split, parser and whatever else must be known.
    """
    questions = []
    for answer, row in pairs:
        humans = human_answers(row)
        graded = evaluator(answer.text, humans)
        questions.append(QuestionScore(answer.id, graded.answer, humans, graded.score))
    headline = accuracy_headline("vqa_accuracy", [question.score for question in questions], inputs.seed)
    scores: dict[str, Any] = {"overall": headline.value}
    for name, column in groups.items():
        labels: list[Hashable] = [row.get(column) for _, row in pairs]
        if any(label is not None for label in labels):
            scores[name] = by_group(questions, labels)
    scores["empty_answers"] = sum(not answer.text.strip() for answer, _ in pairs)
    scores["protocol"] = protocol
    return Report(len(questions), headline, scores, questions)
