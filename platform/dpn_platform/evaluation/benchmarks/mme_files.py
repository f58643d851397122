"""MME's layouts: the release folder with a text file per image, and the parquet. Source: spec benchmarks 3."""

from __future__ import annotations

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.benchmarks.contract import Row
from dpn_platform.evaluation.benchmarks.fields import SCALAR, TEXT, check_fields
from dpn_platform.evaluation.benchmarks.prompts import SHORT_SENTENCE
from dpn_platform.evaluation.benchmarks.sources import is_folder, read_rows, read_text
from dpn_platform.storage import list_files

TITLE = "MME"
PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
CLOSING = "Please answer yes or no."


def bare_question(text: str) -> str:
    """The question without MME's closing instruction and without SHORT; single blanks."""
    return " ".join(text.replace(SHORT_SENTENCE, "").replace(CLOSING, "").split())


def stem(file_name: str) -> str:
    """A file's name up to its first dot."""
    return file_name.rpartition("/")[2].partition(".")[0]


def read_gold(uri: str) -> list[Row]:
    """Rows `category, image, question, answer` (yes or no), an image's two questions one after the other.

    Raises:
        DpnError: not MME's annotations, an unknown subtask, or a gold answer that is neither yes nor no.
    """
    rows = _from_folder(uri) if is_release_folder(uri) else _from_table(uri)
    for row in rows:
        if row["category"] not in PERCEPTION + COGNITION:
            allowed = ", ".join(PERCEPTION + COGNITION)
            raise DpnError(f"{uri}: '{row['category']}' is no subtask of MME (allowed: {allowed})")
        if row["answer"] not in ("yes", "no"):
            where = f"{row['category']}/{row['image']}"
            raise DpnError(f"{uri}: the gold answer of {where} is '{row['answer']}'; allowed are Yes and No")
    return rows


def is_release_folder(uri: str) -> bool:
    """Whether it is a folder with a text file per image."""
    return (
        not uri.endswith((".parquet", ".json", ".jsonl", ".tsv")) and is_folder(uri) and bool(list_files(uri, ".txt"))
    )


def _from_table(uri: str) -> list[Row]:
    rows = read_rows(uri)
    check_fields(rows, uri, TITLE, {"question_id": SCALAR, "question": TEXT, "answer": TEXT, "category": TEXT})
    return [
        {
            "category": row["category"],
            "image": stem(str(row["question_id"])),
            "question": bare_question(row["question"]),
            "answer": row["answer"].lower().strip().strip("."),
        }
        for row in rows
    ]


def _from_folder(uri: str) -> list[Row]:
    rows: list[Row] = []
    for file in list_files(uri, ".txt"):
        parts = file.split("/")
        category = parts[-3] if parts[-2] == "questions_answers_YN" else parts[-2]
        if category not in PERCEPTION + COGNITION:
            continue  # a note beside the subtasks
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            question, tab, answer = line.strip().rpartition("\t")
            if not tab and line.strip():
                raise DpnError(f"{file}, line {number}: a question, a tab and Yes or No are needed")
            if tab:
                rows.append(
                    {
                        "category": category,
                        "image": stem(file),
                        "question": bare_question(question),
                        "answer": answer.strip().lower(),
                    }
                )
    return rows
