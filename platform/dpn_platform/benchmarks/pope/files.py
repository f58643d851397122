"""POPE's labels: three files of JSON lines that pair with the questions by position, or a parquet that pairs by id.

The older and the re-issued label files differ in number and order, so images and questions are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dpn_platform.benchmarks.contract import Inputs, Row
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.files.fields import ANYTHING, SCALAR, TEXT, check_fields
from dpn_platform.benchmarks.files.file_content import data_files
from dpn_platform.benchmarks.files.sources import is_folder, read_rows
from dpn_platform.config.errors import DpnError

TITLE = "POPE"
CATEGORIES = ("adversarial", "popular", "random")
_LABELS = ("yes", "no")
_Key = Callable[[Row], str]


def labelled(answers: Sequence[Answer], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """Every answer with `{category, label}`, category by category.

    Raises:
        DpnError: answers, questions and labels do not fit each other.
    """
    labels = read_labels(inputs.annotations)
    if inputs.questions is not None:
        questions = read_rows(inputs.questions)
        asked = _by_position(questions, labels, inputs)
        # With the labels of some categories only, the answers of the others are left alone.
        unlabelled = {str(row["question_id"]) for row in questions if row["category"] not in labels}
        answers = [answer for answer in answers if answer.key not in unlabelled]
        return pair(answers, lambda answer: answer.key, asked, lambda row: str(row["question_id"]), inputs, TITLE)
    rows = [row for members in labels.values() for row in members]
    numbered = _numbered(answers, rows)
    if numbered is not None:
        return pair(answers, lambda answer: answer.key, rows, numbered, inputs, TITLE)
    return _by_prompts(answers, labels, inputs)


def read_labels(uri: str) -> dict[str, list[Row]]:
    """Category -> its labels in the file's order, as rows `question, image, label, category` and the file's ids.

    Raises:
        DpnError: not POPE's label files, an unknown category, or a label that is neither yes nor no.
    """
    files = _label_files(uri) if is_folder(uri) else []
    rows = [row for file in files for row in _rows_of(file)] if files else _rows_of(uri)
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["category"] not in CATEGORIES:
            raise DpnError(f"{uri}: category '{row['category']}' is unknown; allowed are {', '.join(CATEGORIES)}")
        if row["label"] not in _LABELS:
            raise DpnError(f"{uri}: label '{row['label']}' of '{row['question']}'; allowed are yes and no")
        found.setdefault(row["category"], []).append(row)
    return found


def _label_files(uri: str) -> list[str]:
    """The label files of a folder, one per category.

    Raises:
        DpnError: two of one category.
    """
    found: dict[str, str] = {}
    for file in data_files(uri, ".json", ".jsonl", recursive=False):
        name = file.rpartition("/")[2]
        if "coco_pope_" in name and found.setdefault(name.partition(".")[0], file) != file:
            raise DpnError(f"{uri}: two label files of one category ({name} and its like); keep one")
    return list(found.values())


def _rows_of(uri: str) -> list[Row]:
    rows = read_rows(uri)
    name = uri.rpartition("/")[2]
    of_file = next((category for category in CATEGORIES if category in name), None)
    if "label" in rows[0]:
        question, label, image = "text", "label", "image"
        needed = {"image": ANYTHING, question: TEXT, label: TEXT}
    else:
        question, label, image = "question", "answer", "image_source"
        needed = {question: TEXT, label: TEXT}
    check_fields(rows, uri, TITLE, needed, category=TEXT, id=SCALAR, question_id=SCALAR)
    if of_file is None and any("category" not in row for row in rows):
        raise DpnError(f"{uri}: neither the file's name nor its rows say which category it is: {', '.join(CATEGORIES)}")
    return [
        {
            **row,
            "question": row[question].strip(),
            "label": row[label].strip().lower(),
            "image": _image_name(row.get(image)),
            "category": row.get("category", of_file),
        }
        for row in rows
    ]


def _by_position(asked: Sequence[Row], labels: Mapping[str, Sequence[Row]], inputs: Inputs) -> list[Row]:
    """The questions of LLaVA's file with their labels; the n-th of a category has the n-th label.

    Raises:
        DpnError: other numbers, images or questions: labels of another issue.
    """
    needed = {"question_id": SCALAR, "text": TEXT, "category": TEXT}
    check_fields(asked, str(inputs.questions), TITLE, needed)
    joined: list[Row] = []
    for category, gold in labels.items():
        questions = [row for row in asked if row["category"] == category]
        if len(questions) != len(gold):
            raise DpnError(
                f"{inputs.annotations}: {len(gold)} {category} labels, but {len(questions)} {category} questions in "
                f"{inputs.questions}: labels of another issue of POPE (the older has 2910 random ones, the newer 3000)"
            )
        for place, (question, label) in enumerate(zip(questions, gold, strict=True), start=1):
            same_image = label["image"] is None or _image_name(question.get("image")) in (None, label["image"])
            if not same_image or _first_line(question["text"]) != label["question"]:
                raise DpnError(
                    f"{inputs.annotations}: {category} label {place} is of '{label['question']}' ({label['image']}), "
                    f"but question {question['question_id']} of {inputs.questions} is '{_first_line(question['text'])}'"
                    f" ({question.get('image')}): labels of another issue of POPE"
                )
            joined.append({**label, "question_id": question["question_id"]})
    return joined


def _numbered(answers: Sequence[Answer], rows: Sequence[Row]) -> _Key | None:
    """The way of naming a label's row that all answers follow: its `id`, or category/question_id, or question_id."""
    keys = {answer.key for answer in answers}
    ways: list[_Key] = [
        lambda row: str(row.get("id")),
        lambda row: f"{row['category']}/{row.get('question_id')}",
        lambda row: str(row.get("question_id")),
    ]
    for way in ways:
        names = [str(way(row)) for row in rows]
        if (
            len(set(names)) == len(rows)
            and keys <= set(names)
            and _prompts_agree(answers, dict(zip(names, rows, strict=True)))
        ):
            return way
    return None


def _prompts_agree(answers: Sequence[Answer], rows: Mapping[str, Row]) -> bool:
    return all(
        answer.prompt is None or _first_line(answer.prompt) == rows[answer.key]["question"] for answer in answers
    )


def _by_prompts(answers: Sequence[Answer], labels: Mapping[str, list[Row]], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """Without a question file: by position, in the order of categories whose questions are those of the prompts.

    Raises:
        DpnError: no order fits.
    """
    waiting, rest, joined = dict(labels), list(answers), []
    while waiting:
        fitting = next((name for name, gold in waiting.items() if _begins_with(rest, gold)), None)
        if fitting is None:
            break
        gold = waiting.pop(fitting)
        joined += list(zip(rest, gold, strict=False))
        rest = rest[len(gold) :]
    if waiting or rest:
        total = sum(len(gold) for gold in labels.values())
        raise DpnError(
            f"{inputs.predictions}: {len(answers)} answers do not follow the {total} questions of {inputs.annotations} "
            "by id or by prompt; give LLaVA's question file, which tells category and image, with --questions"
        )
    return joined


def _begins_with(answers: Sequence[Answer], gold: Sequence[Row]) -> bool:
    first = answers[: len(gold)]
    return len(first) == len(gold) and all(
        answer.prompt is not None and _first_line(answer.prompt) == row["question"]
        for answer, row in zip(first, gold, strict=True)
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()


def _image_name(image: object) -> str | None:
    """A file name without folder and suffix; None where the layout holds the picture itself, or no name."""
    return image.rpartition("/")[2].partition(".")[0] if isinstance(image, str) else None
