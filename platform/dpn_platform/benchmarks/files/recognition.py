"""Tells whose file this is, so that a mix-up can be named: by the form of ids and prompts, and by column names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dpn_platform.benchmarks.contract import Row

_SAMPLE = 50
_MME_SUBTASKS = (
    "existence|count|position|color|OCR|posters|celebrity|scene|landmark|artwork|"
    "commonsense_reasoning|numerical_calculation|text_translation|code_reasoning"
)
#: title -> form of every id
_ID_FORMS = (
    ("MME", re.compile(rf"({_MME_SUBTASKS})/.+")),
    ("MMMU", re.compile(r"(dev|validation|test)_[A-Z]\w+_\d+")),
    ("MM-Vet", re.compile(r"v1_\d+")),
    ("TextVQA", re.compile(r"[0-9a-f]{16}")),
    ("VizWiz", re.compile(r"VizWiz_(train|val|test)_\d{8}\.jpg")),
)
#: title -> a piece of every prompt
_PROMPT_FORMS = (
    ("VizWiz", re.compile(r"respond with 'Unanswerable'")),
    ("TextVQA", re.compile(r"\nReference OCR token:")),
    ("POPE", re.compile(r"^Is there .+ in the im(age|g)", re.IGNORECASE)),
)
#: what answer files are called here
ANSWERS = "an answer file"
#: title -> columns no other benchmark has together; last, the fewest that its scorer reads
_COLUMNS = (
    ("SEED-Bench", {"choice_a", "choice_b", "data_type"}),
    ("ScienceQA", {"choices", "hint", "question"}),
    ("MMBench", {"index", "A", "B", "category"}),
    ("MMMU", {"options", "question_type", "answer"}),
    ("MM-Vet", {"capability", "question"}),
    ("TextVQA", {"question", "answers", "image_classes"}),
    ("VizWiz", {"answers", "answerable", "answer_type"}),
    ("VQAv2", {"answers", "question_type", "answer_type"}),
    ("POPE", {"text", "label", "image"}),
    ("POPE", {"question", "answer", "image_source", "category"}),
    ("GQA", {"question", "answer", "imageId"}),
    ("MME", {"question_id", "question", "answer", "category"}),
    ("SEED-Bench", {"question_id", "data_type", "answer"}),
    ("ScienceQA", {"question", "choices", "answer"}),
    ("MMBench", {"index", "A", "B"}),
    ("MMMU", {"id", "question_type", "answer"}),
    ("POPE", {"question", "answer", "category"}),
    (ANSWERS, {"question_id", "text", "answer_id"}),
)


def owner_of_answers(answers: Sequence[tuple[str, str | None]]) -> str | None:
    """The benchmark whose ids or prompts all the first answers have; None when several could be meant.

    Args:
        answers: id and prompt of each.
    """
    sample = answers[:_SAMPLE]
    for title, form in _ID_FORMS:
        if all(form.fullmatch(key) for key, _ in sample):
            return title
    for title, form in _PROMPT_FORMS:
        if all(prompt and form.search(prompt) for _, prompt in sample):
            return title
    return None


def owner_of_rows(rows: Sequence[Row]) -> str | None:
    """The benchmark whose annotations have these columns."""
    columns = set(rows[0]) if rows else set()
    return next((title for title, needed in _COLUMNS if needed <= columns), None)
