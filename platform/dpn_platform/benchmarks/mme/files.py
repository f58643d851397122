"""MME's layouts: the release folder with a text file per image, and the parquet; and the official tool's results.

Source: spec benchmarks 3.
"""

from __future__ import annotations

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.files.fields import SCALAR, TEXT, check_fields
from dpn_platform.benchmarks.files.file_content import data_files, read_text
from dpn_platform.benchmarks.files.sources import is_folder, read_rows
from dpn_platform.benchmarks.prompts import SHORT_SENTENCE
from dpn_platform.config.errors import DpnError

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
_RESULT_CELLS = 4


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
    return is_folder(uri) and bool(data_files(uri, ".txt"))


def read_mme_answers(uri: str) -> list[Answer]:
    """An answer file; or the folder that the official tool scores, with a file of answers per subtask.

    Raises:
        DpnError: as `read_answers`; or a line of a subtask's file is not image, question, gold and answer.
    """
    files = {file: _subtask_of(file) for file in data_files(uri, ".txt", recursive=False)} if is_folder(uri) else {}
    if not any(files.values()):
        return read_answers(uri)
    return [answer for file, subtask in files.items() if subtask for answer in _results_of(file, subtask)]


def _subtask_of(file: str) -> str | None:
    name = stem(file)
    return name if name in PERCEPTION + COGNITION else None


def _results_of(file: str, subtask: str) -> list[Answer]:
    answers = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        cells = line.rstrip("\r").split("\t")
        if line.strip() and len(cells) != _RESULT_CELLS:
            raise DpnError(
                f"{file}, line {number}: image, question, gold and answer are needed with a tab between each, "
                f"found {len(cells)} of {_RESULT_CELLS}"
            )
        if line.strip():
            image, question, _, text = cells
            key = f"{subtask}/{image}"
            answers.append(Answer(key, key, text, question))
    return answers


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
    for file in data_files(uri, ".txt"):
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
