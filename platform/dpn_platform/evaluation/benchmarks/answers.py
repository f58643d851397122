"""Reads an answer file: LLaVA's JSON lines, or the lists and dictionaries that servers and other programs take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.benchmarks.contract import Row
from dpn_platform.evaluation.benchmarks.fields import SCALAR, misfit
from dpn_platform.evaluation.benchmarks.sources import read_document

_ID_KEYS = ("question_id", "questionId", "id", "index", "image")
_TEXT_KEYS = ("text", "prediction", "response", "answer")


@dataclass(frozen=True)
class Answer:
    """One answer: `key` is its id as text, for joining; `prompt` is None where the file does not keep it."""

    id: Any
    key: str
    text: str
    prompt: str | None = None
    record: Row = field(default_factory=dict, repr=False)


def read_answers(uri: str) -> list[Answer]:
    """The answers in the file's order.

    Raises:
        DpnError: the file is empty, or a record has no id or no text; the line names it.
    """
    document = read_document(uri)
    if isinstance(document, Mapping) and "question_id" in document:
        document = [document]  # JSON lines under the name .json, and only one of them
    if isinstance(document, Mapping):
        answers = [_from_pair(uri, key, value) for key, value in document.items()]
    elif isinstance(document, list):
        answers = [_from_record(uri, number, row) for number, row in enumerate(document, start=1)]
    else:
        raise DpnError(f"{uri}: not an answer file; records with question_id and text are needed")
    if not answers:
        raise DpnError(f"{uri}: holds no answers")
    return answers


def _from_pair(uri: str, key: str, value: Any) -> Answer:
    if not isinstance(value, str):
        raise DpnError(f"{uri}: the answer to '{key}' is {_kind(value)}; a text is needed")
    return Answer(key, key, value)


def _from_record(uri: str, number: int, row: Any) -> Answer:
    if not isinstance(row, Mapping):
        raise DpnError(f"{uri}, record {number}: {_kind(row)}; an object with question_id and text is needed")
    identity = next((key for key in _ID_KEYS if row.get(key) is not None), None)
    text = next((key for key in _TEXT_KEYS if key in row), None)
    if identity is None or text is None:
        lacks = "id (question_id)" if identity is None else "answer (text)"
        raise DpnError(f"{uri}, record {number}: no {lacks}; found: {', '.join(map(str, row)) or 'nothing'}")
    if not isinstance(row[text], str):
        raise DpnError(f"{uri}, record {number}: '{text}' is {_kind(row[text])}; a text is needed")
    if not SCALAR.fits(row[identity]):
        raise misfit(f"{uri}, record {number}", identity, row[identity], SCALAR.needed)
    prompt = row.get("prompt")
    return Answer(row[identity], str(row[identity]), row[text], prompt if isinstance(prompt, str) else None, row)


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
