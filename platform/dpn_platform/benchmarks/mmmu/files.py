"""MMMU's layouts: the parquet per subject, the gold dictionary, and three forms of answer files."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from dpn_platform.benchmarks.contract import Inputs, Row
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.files.fields import SCALAR, TEXT, check_fields, check_value, either, list_of, optional
from dpn_platform.benchmarks.files.sources import read_document, read_rows, rows_by_id
from dpn_platform.benchmarks.prompts import LETTERS
from dpn_platform.config.errors import DpnError

TITLE = "MMMU"
_SPLIT = "validation"
CHOICE = "multiple-choice"
_GOLD = either("a text, a number or a list of them", SCALAR, list_of(SCALAR, "a list"))
_OPTIONS = either("a list of options, or a text with one", TEXT, list_of(SCALAR, "a list"))
_BY_DISCIPLINE = {
    "Art & Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health & Medicine": (
        "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health"
    ),
    "Humanities & Social Science": "History Literature Sociology Psychology",
    "Tech & Engineering": (
        "Agriculture Architecture_and_Engineering Computer_Science Electronics Energy_and_Power Materials "
        "Mechanical_Engineering"
    ),
}
#: subject -> discipline
DISCIPLINES = {subject: name for name, subjects in _BY_DISCIPLINE.items() for subject in subjects.split()}


def subject_of(row: Row) -> str:
    """validation_Art_Theory_3 -> Art_Theory."""
    return "_".join(str(row["id"]).split("_")[1:-1])


def option_list(row: Row) -> list[str]:
    """The options; the parquet holds them as a text with a Python list in it."""
    options = row.get("options")
    if isinstance(options, str):
        options = _literal(options)
    return [str(option) for option in options] if isinstance(options, list | tuple) else []


def options_of(row: Row, answer: Answer, predictions: str) -> dict[str, str] | None:
    """Letter -> option, from the annotations or from the answer's own record; None where neither has them.

    Raises:
        DpnError: the record of an answer in `predictions` holds an option that is no text.
    """
    options = option_list(row)
    if options:
        return dict(zip(LETTERS, options, strict=False))
    listed = answer.record.get("index2ans")
    if not listed or not isinstance(listed, Mapping):
        return None
    for letter, text in listed.items():
        check_value(f"{predictions}, answer to '{answer.key}'", f"index2ans.{letter}", text, SCALAR)
    return {str(letter): str(text) for letter, text in listed.items()}


def read_gold(inputs: Inputs) -> list[Row]:
    """Rows with `id, question_type, answer`, and `options` where the file (or --questions) has them.

    Raises:
        DpnError: not MMMU's annotations, or a question without answer (the test split).
    """
    document = read_document(inputs.annotations, _SPLIT)
    rows: list[Row] = [{**row, "answer": row.get("ground_truth")} for row in rows_by_id(document)]
    rows = rows or read_rows(inputs.annotations, split=_SPLIT)
    needed = {"id": SCALAR, "question_type": TEXT, "answer": optional(_GOLD)}
    check_fields(rows, inputs.annotations, TITLE, needed, options=_OPTIONS)
    hidden = [row for row in rows if row["answer"] in (None, "", "?")]
    if hidden:
        raise DpnError(
            f"{inputs.annotations}: {len(hidden)} of {len(rows)} questions have no answer ('{hidden[0]['id']}', ...): "
            "the test split, whose answers are private; MMMU is scored on validation"
        )
    options = {} if inputs.questions is None else _options_apart(inputs.questions)
    return [{"options": options.get(row["id"]), **row, "answer": _gold(row)} for row in rows]


def _options_apart(uri: str) -> dict[Any, Any]:
    """Id -> options of the file given as --questions."""
    rows = read_rows(uri, split=_SPLIT)
    check_fields(rows, uri, TITLE, {"id": SCALAR}, options=_OPTIONS)
    return {row["id"]: row.get("options") for row in rows}


def _gold(row: Row) -> str | list[str]:
    """The gold answer; several accepted ones come as a list, in the parquet as a text with a list in it."""
    answer: Any = row["answer"]
    if row["question_type"] != CHOICE and isinstance(answer, str) and answer.startswith("["):
        literal = _literal(answer)
        answer = literal if isinstance(literal, list) else answer
    return [str(item) for item in answer] if isinstance(answer, list) else str(answer)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that its documentation names
        return text
