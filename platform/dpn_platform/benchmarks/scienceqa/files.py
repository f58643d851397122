"""ScienceQA's layouts: the problems folder or file with its splits, and the parquet that numbers nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpn_platform.benchmarks.contract import Inputs, Row
from dpn_platform.benchmarks.files.alignment import pair_known
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.files.fields import (
    ANYTHING,
    SCALAR,
    TEXT,
    check_fields,
    check_value,
    list_of,
    misfit,
    place_of,
    shown_value,
    whole_number,
)
from dpn_platform.benchmarks.files.sources import is_folder, read_document, read_rows
from dpn_platform.benchmarks.prompts import LETTER_SENTENCE, LETTERS
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, join_uri

TITLE = "ScienceQA"
_SPLIT = "test"
_IMAGE_TAG = "<image>"


def read_problems(inputs: Inputs) -> list[Row]:
    """The problems of the test split, each with `id`.

    A folder holds `problems.json` and `pid_splits.json`; a file `problems.json` is read with the splits beside it or,
    without them, by its own `split` field. Parquet rows are of the test split; the id of a row is its place.

    Raises:
        DpnError: the file is not ScienceQA's, lists no test problem, or a gold answer is none of the choices.
    """
    uri = inputs.annotations
    if "." not in uri.rsplit("/", 1)[-1] and is_folder(uri) and exists(join_uri(uri, "problems.json")):
        uri = join_uri(uri, "problems.json")
    document = read_document(uri, _SPLIT)
    if isinstance(document, Mapping):
        rows = _test_problems(uri, document)
    else:
        rows = [
            {"id": place, **row, "image": row.get("image", True), "unnumbered": "id" not in row}
            for place, row in enumerate(read_rows(uri, split=_SPLIT))
        ]
    needed = {"question": TEXT, "choices": list_of(SCALAR, "a list of choices"), "answer": ANYTHING}
    check_fields(rows, uri, TITLE, needed, id=SCALAR, hint=TEXT, subject=SCALAR, grade=SCALAR)
    return [{**row, "answer": _gold_index(row, place_of(uri, place, row))} for place, row in enumerate(rows, start=1)]


def _gold_index(row: Row, where: str) -> int:
    count = min(len(row["choices"]), len(LETTERS))
    index = whole_number(row["answer"])
    if index is None or index >= count:
        raise misfit(where, "answer", row["answer"], f"the place of one of its {count} choices, counted from 0,")
    return index


def with_answers(
    answers: Sequence[Answer], problems: Sequence[Row], inputs: Inputs, question_text: Callable[[Row], str]
) -> list[tuple[Answer | None, Row]]:
    """Every problem with its answer or None: by id, or by the prompt where problems carry no ids of their own.

    Raises:
        DpnError: an answer without problem, or several answers to one.
    """
    keys = {str(row["id"]) for row in problems}
    if not problems[0].get("unnumbered") or all(answer.key in keys and answer.prompt is None for answer in answers):
        return pair_known(answers, lambda answer: answer.key, problems, lambda row: str(row["id"]), inputs, TITLE)
    # LLaVA's answers carry ScienceQA's problem ids, which this layout leaves out: equal prompts are joined in order.
    # The layout has image questions alone; answers to others, which carry no image tag, are left out.
    if any(answer.prompt is None for answer in answers):
        raise DpnError(
            f"{inputs.annotations}: rows without ids can only be joined to answers that keep their prompt or are "
            f"numbered by row, which {inputs.predictions} is not"
        )
    tagged = [answer for answer in answers if _IMAGE_TAG in str(answer.prompt)]
    return pair_known(tagged or answers, _bare, problems, lambda row: _single_blanks(question_text(row)), inputs, TITLE)


def _bare(answer: Answer) -> str:
    return _single_blanks(str(answer.prompt).replace(_IMAGE_TAG, "").replace(LETTER_SENTENCE, ""))


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def _test_problems(uri: str, problems: Mapping[str, Any]) -> list[Row]:
    if not all(isinstance(problem, Mapping) for problem in problems.values()):
        raise DpnError(f"{uri}: not ScienceQA's problems.json, which maps problem ids to problems")
    splits = join_uri(uri.rpartition("/")[0] or ".", "pid_splits.json")
    if exists(splits):
        listed = read_document(splits)
        ids = listed.get(_SPLIT) if isinstance(listed, Mapping) else None
        check_value(splits, _SPLIT, ids, list_of(SCALAR, "a list of problem ids"))
        chosen = [str(identity) for identity in ids or ()]
        absent = [identity for identity in chosen if identity not in problems]
        if absent:
            raise DpnError(f"{uri}: {len(absent)} test problems of {splits} are not in it (first: '{absent[0]}')")
    else:
        chosen = [identity for identity, problem in problems.items() if problem.get("split", _SPLIT) == _SPLIT]
    if not chosen:
        found = sorted({shown_value(problem.get("split")) for problem in problems.values()})
        raise DpnError(f"{uri}: no problems of the test split (found: {', '.join(found)})")
    return [{**problems[identity], "id": identity} for identity in chosen]
