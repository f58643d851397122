"""MMBench's table (TSV or parquet), its rotated rows, and the table the server takes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from dpn_platform.benchmarks.contract import Inputs, Row
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.files.fields import (
    SCALAR,
    WHOLE,
    Kind,
    check_fields,
    check_value,
    either,
    misfit,
    optional,
    place_of,
    shown_value,
    whole_number,
)
from dpn_platform.benchmarks.files.sources import read_rows
from dpn_platform.benchmarks.files.spreadsheet import to_tsv, to_xlsx
from dpn_platform.benchmarks.prompts import is_missing, options_before_gap
from dpn_platform.config.errors import DpnError

TITLE = "MMBench"
_LETTERS = "ABCD"
_ROTATION_STEP = 1_000_000
#: LLaVA's table: what is left of MMBench's, with the answer of the model as the seventh column
_COLUMNS = ("index", "question", "A", "B", "C", "D", "prediction", "answer", "split")
_INDEX = Kind("a whole number", lambda value: not isinstance(value, float) and WHOLE.fits(value))
#: tables hold NaN where nothing is
_CELL = either(SCALAR.needed, SCALAR, Kind("NaN", lambda value: isinstance(value, float)))
_OTHER_COLUMNS = ("hint", "C", "D", "answer", "category", "l2-category", "L2-category", "split")
_WRITERS = {".xlsx": to_xlsx, ".tsv": to_tsv}


def options_of(row: Row) -> dict[str, str]:
    """Letter -> text of the options there are, up to the first missing one."""
    return dict(zip(_LETTERS, options_before_gap([row.get(letter) for letter in _LETTERS]), strict=False))


def answer_fields(row: Row) -> dict[str, Any]:
    """What LLaVA's runner adds to a line of answers; the options are asked in their own order: one round."""
    options = options_of(row)
    return {"round_id": 0, "options": list(options.values()), "option_char": list(options)}


def base_index(row: Row) -> int:
    """The question a row belongs to: rotated copies have its index plus millions."""
    return int(row["index"]) % _ROTATION_STEP


def read_table(uri: str) -> list[Row]:
    """All rows of the table.

    Raises:
        DpnError: not MMBench's table, or an index that is no number or occurs twice.
    """
    rows = read_rows(uri, split="dev")
    needed = {"index": _INDEX, **dict.fromkeys(("question", "A", "B"), optional(_CELL))}
    check_fields(rows, uri, TITLE, needed, **dict.fromkeys(_OTHER_COLUMNS, _CELL))
    seen = set()
    for row in rows:
        if int(row["index"]) in seen:
            raise DpnError(f"{uri}: index {row['index']} occurs twice")
        seen.add(int(row["index"]))
    return rows


def read_gold(uri: str) -> list[Row]:
    """All rows, each with an answer that is one of its options.

    Raises:
        DpnError: as `read_table`, or answers are private or out of range.
    """
    rows = read_table(uri)
    hidden = [row for row in rows if is_missing(row.get("answer"))]
    if hidden:
        raise DpnError(
            f"{uri}: {len(hidden)} of {len(rows)} rows have no answer: this is {TITLE}'s test split, whose answers are "
            "private. Write the server's table with --submission FILE, or score the dev split"
        )
    for row in rows:
        if row["answer"] not in options_of(row):
            raise DpnError(
                f"{uri}: the 'answer' of index {row['index']} is {shown_value(row['answer'])}, which is no option of it"
                f" ({', '.join(options_of(row)) or 'it has none'})"
            )
    return rows


def rounds(answers: Sequence[Answer], rows: Sequence[Row], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """Every asked rotation with its row; LLaVA's all-rounds option asks a row once per option.

    Raises:
        DpnError: answers and rows do not fit each other.
    """
    for place, answer in enumerate(answers, start=1):
        where = place_of(inputs.predictions, place, answer.record)
        check_value(where, "round_id", answer.record.get("round_id"), optional(WHOLE))
    all_rounds = any(round_of(answer) for answer in answers)

    def answer_key(answer: Answer) -> Hashable:
        return (answer.key, round_of(answer)) if all_rounds else answer.key

    if not all_rounds:
        return pair(answers, answer_key, rows, lambda row: str(row["index"]), inputs, TITLE)
    asked = [(row, round_id) for row in rows for round_id in range(len(options_of(row)))]
    pairs = pair(answers, answer_key, asked, lambda item: (str(item[0]["index"]), item[1]), inputs, TITLE)
    return [(answer, row) for answer, (row, _) in pairs]


def round_of(answer: Answer) -> int:
    """The rotation an answer is to; 0 where its record does not say."""
    return whole_number(answer.record.get("round_id")) or 0


def option_order(answer: Answer, row: Row, uri: str) -> list[str]:
    """The letters of a row's options in the order they were asked: their own, and `option_char` in later rounds.

    Raises:
        DpnError: `option_char` holds other letters.
    """
    letters, order = list(options_of(row)), answer.record.get("option_char")
    if not order or not round_of(answer):
        return letters
    is_order = isinstance(order, str | list) and len(order) == len(letters)
    if not is_order or any(letter not in order for letter in letters):
        where = f"{uri}, answer to '{answer.key}' in round {round_of(answer)}"
        raise misfit(where, "option_char", order, f"a list of the letters {', '.join(letters)} in the order asked")
    return list(order)


def submission(inputs: Inputs, suffix: str) -> bytes:
    """The server's table of the annotation file's rows, as .xlsx or .tsv.

    Raises:
        DpnError: another suffix, or answers and rows do not fit each other.
    """
    writer = _WRITERS.get(suffix)
    if writer is None:
        raise DpnError(f"mmbench: a submission ends in {' or '.join(_WRITERS)}, not '{suffix}'")
    rows = read_table(inputs.annotations)
    answers = read_answers(inputs.predictions)
    pairs = pair(answers, lambda answer: answer.key, rows, lambda row: str(row["index"]), inputs, TITLE)
    # A table without gold has no `answer` column, and the server's table then has none either.
    columns = [column for column in _COLUMNS if column == "prediction" or column in rows[0]]
    body = [[_cell({**row, "prediction": answer.text}, column) for column in columns] for answer, row in pairs]
    return writer([columns, *body])


def _cell(row: Row, column: str) -> str | int | None:
    value = row.get(column)
    if column == "index":
        return int(row[column])
    return None if is_missing(value) and column != "prediction" else str(value)
