"""Reads an answer file: LLaVA's JSON lines or chunks of them, and what servers and other programs write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.answer_columns import answer_column, are_questions, unwrapped
from dpn_platform.benchmarks.files.fields import SCALAR, misfit
from dpn_platform.benchmarks.files.file_content import data_files, suffix_of
from dpn_platform.benchmarks.files.sources import is_folder, read_document
from dpn_platform.config.errors import DpnError

_ID_KEYS = ("question_id", "questionId", "id", "index", "image")
#: where a benchmark's own files keep their list of questions
_LISTS = ("questions", "annotations", "data")
_CHUNK = re.compile(r"(\d+)_(\d+)\.jsonl(\.gz)?")
_MERGED = "merge.jsonl"
_SHOWN = 8


@dataclass(frozen=True)
class Answer:
    """One answer: `key` is its id as text, for joining; `prompt` is None where the file does not keep it."""

    id: Any
    key: str
    text: str
    prompt: str | None = None
    record: Row = field(default_factory=dict, repr=False)


def read_answers(uri: str) -> list[Answer]:
    """The answers in the file's order; of a folder with LLaVA's chunks, in the order of the chunks.

    Raises:
        DpnError: the file is empty, a record has no id or no text (the line names it), it cannot be told which column
            is the answer, or the file is a benchmark's own; a chunk is missing.
    """
    document = _read_folder(uri) if is_folder(uri) else read_document(uri)
    if isinstance(document, Mapping) and "question_id" in document:
        document = [document]  # JSON lines under the name .json, and only one of them
    if isinstance(document, Mapping):
        _refuse_own_document(uri, document)
        answers = [_from_pair(uri, key, value) for key, value in document.items()]
        if answers and are_questions([answer.text for answer in answers]):
            raise DpnError(f"{uri}: holds questions by id, and no answers")
    elif isinstance(document, list):
        answers = _from_records(uri, document)
    else:
        raise DpnError(f"{uri}: not an answer file; records with question_id and text are needed")
    if not answers:
        raise DpnError(f"{uri}: holds no answers")
    return answers


def _read_folder(uri: str) -> list[Any]:
    """The records of LLaVA's chunks, `8_0.jsonl` to `8_7.jsonl`, or of parquet files.

    Raises:
        DpnError: neither is there, a chunk is missing, or there are chunks of two runs.
    """
    files = {file.rpartition("/")[2]: file for file in data_files(uri, recursive=False)}
    lines = [name for name in files if suffix_of(name) == ".jsonl" and name != _MERGED]
    if not any(map(_CHUNK.fullmatch, lines)):
        if data_files(uri, ".parquet"):
            return list(read_document(uri))
        raise DpnError(
            f"{uri}: is a folder; an answer file is needed, or a folder of LLaVA's chunks (8_0.jsonl to 8_7.jsonl); "
            f"found: {', '.join(list(files)[:_SHOWN]) or 'no file'}"
        )
    records = [row for name in _chunks(uri, lines) for row in read_document(files[name])]
    if _MERGED in files and read_document(files[_MERGED]) not in (records, []):
        raise DpnError(f"{uri}: {_MERGED} is not what the chunks hold together; give the file that counts")
    return records


def _chunks(uri: str, names: Sequence[str]) -> list[str]:
    """The chunks in their order.

    Raises:
        DpnError: some are missing, or there are files of two runs.
    """
    found = {name: _CHUNK.fullmatch(name) for name in names}
    places = {name: (int(match[1]), int(match[2])) for name, match in found.items() if match}
    total = max(total for total, _ in places.values())
    of_place = {place: name for name, (of, place) in places.items() if of == total and place < total}
    others = [name for name in names if name not in of_place.values()]
    if others:
        one = next(iter(of_place.values()), names[0])
        raise DpnError(f"{uri}: {one} and {others[0]} are not chunks of one run; give a folder with the chunks of one")
    missing = [f"{total}_{place}.jsonl" for place in range(total) if place not in of_place]
    if missing:
        raise DpnError(f"{uri}: {len(of_place)} of {total} chunks are there; missing: {', '.join(missing[:_SHOWN])}")
    return [of_place[place] for place in range(total)]


def _refuse_own_document(uri: str, document: Mapping[str, Any]) -> None:
    """Names a benchmark's document of questions or annotations: a list under a name, or records by id.

    Raises:
        DpnError: it is one.
    """
    nested = next((document[name] for name in _LISTS if isinstance(document.get(name), list)), None)
    rows = (
        [{"id": key, **row} for key, row in document.items() if isinstance(row, Mapping)] if nested is None else nested
    )
    if rows and all(isinstance(row, Mapping) for row in rows):
        answer_column(uri, rows)
    if nested is not None:
        raise DpnError(f"{uri}: not an answer file; a list of records with question_id and text is needed")


def _from_pair(uri: str, key: str, value: Any) -> Answer:
    if not isinstance(value, str):
        raise DpnError(f"{uri}: the answer to '{key}' is {_kind(value)}; a text is needed")
    return Answer(key, key, value)


def _from_records(uri: str, rows: Sequence[Any]) -> list[Answer]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DpnError(f"{uri}, record {number}: {_kind(row)}; an object with question_id and text is needed")
    column = answer_column(uri, rows) if rows else ""
    return [_from_record(uri, number, row, column) for number, row in enumerate(rows, start=1)]


def _from_record(uri: str, number: int, row: Row, column: str) -> Answer:
    # lmms-eval's log keeps the question's record under `doc`; its own doc_id is a place in the set.
    named = row["doc"] if isinstance(row.get("doc"), Mapping) else row
    identity = next((key for key in _ID_KEYS if named.get(key) is not None), None)
    if identity is None or column not in row:
        lacks = "id (question_id)" if identity is None else f"answer ({column})"
        raise DpnError(f"{uri}, record {number}: no {lacks}; found: {', '.join(map(str, row)) or 'nothing'}")
    text, prompt = unwrapped(row[column]), row.get("prompt", row.get("input"))
    if not isinstance(text, str):
        raise DpnError(f"{uri}, record {number}: '{column}' is {_kind(text)}; a text is needed")
    if not SCALAR.fits(named[identity]):
        raise misfit(f"{uri}, record {number}", identity, named[identity], SCALAR.needed)
    key = _key(named[identity])
    return Answer(named[identity], key, text, prompt if isinstance(prompt, str) else None, row)


def _key(identity: Any) -> str:
    """An id as text; pandas writes whole numbers as 12.0 where an id was missing."""
    return str(int(identity)) if isinstance(identity, float) and identity.is_integer() else str(identity)


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
