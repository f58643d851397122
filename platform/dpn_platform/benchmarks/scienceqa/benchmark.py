"""ScienceQA, image questions of the test split: accuracy of letters. Source: spec benchmarks 3."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dpn_platform.benchmarks.contract import (
    HARNESS,
    LLAVA,
    PARQUET,
    REFERENCE,
    Benchmark,
    Inputs,
    Layout,
    Prompt,
    QuestionScore,
    Report,
    Row,
)
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.prompts import HARNESS_SHORT_LIMIT, LETTER, LETTERS, LONG_LIMIT, lettered
from dpn_platform.benchmarks.scienceqa.files import read_problems, with_answers
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group, percent

LLAVA_HR = "llava-hr"
FAILED = "FAILED"
_OPTIONS = tuple("ABCDE")
_THE_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")
_IMAGE_TAG = "<image>"
LIMITS = {REFERENCE: LONG_LIMIT, LLAVA_HR: 64, HARNESS: HARNESS_SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """Context, question and lettered choices, or LLaVA's stored conversation; then LETTER. No image, no image tag."""
    limit = LIMITS[variant]
    images = ("image",) if record.get("image") else ()
    if "conversations" in record:
        return Prompt(record["conversations"][0]["value"].replace(_IMAGE_TAG, "").strip() + LETTER, limit, images)
    return Prompt(question_text(record) + LETTER, limit, images)


def question_text(row: Row) -> str:
    """Hint, question and choices of a problem."""
    context = f"Context: {row['hint']}\n" if row.get("hint") else ""
    return f"{context}{row['question']}\n{lettered(row['choices'])}"


def parse_reference(text: str) -> str:
    """A bare letter; a letter followed by `. `; a single "The answer is X" with one more character; else FAILED."""
    if text in _OPTIONS:
        return text
    if len(text) >= 3 and text[0] in _OPTIONS and text[1:3] == ". ":
        return text[0]
    found = _THE_ANSWER_IS.findall(text)
    return found[0] if len(found) == 1 else FAILED


def parse_llava_hr(text: str) -> str:
    """As the reference, but any answer of three characters or more that begins with a letter is that letter."""
    return text[0] if len(text) >= 3 and text[0] in _OPTIONS else parse_reference(text)


def parse_harness(text: str) -> str:
    """lmms-eval's: one letter in any case, or a capital letter and a full stop; beyond the choices is just wrong."""
    text = text.strip()
    if len(text) == 1 and text.upper() in LETTERS:
        return text.upper()
    return text[0] if len(text) >= 2 and text[0].isupper() and text[1] == "." else FAILED


_PARSERS: dict[str, Callable[[str], str]] = {
    REFERENCE: parse_reference,
    LLAVA_HR: parse_llava_hr,
    HARNESS: parse_harness,
}


def score(inputs: Inputs) -> Report:
    """Accuracy on questions with an image (headline) and on all; absent answers are wrong in both, and reported.

    Raises:
        DpnError: the files do not fit each other.
    """
    problems = read_problems(inputs)
    pairs = with_answers(read_answers(inputs.predictions), problems, inputs, question_text)
    with_image = _image_questions(pairs)
    questions = [
        replace(_grade(answer, row, inputs.variant), in_headline=shown or not any(with_image))
        for (answer, row), shown in zip(pairs, with_image, strict=True)
    ]
    image_questions = [question for question, shown in zip(questions, with_image, strict=True) if shown]
    headline_of = image_questions or questions
    name = "accuracy_image" if image_questions else "accuracy (no prompt carries the image tag: all questions)"
    headline = accuracy_headline(name, [question.score for question in headline_of], inputs.seed)
    unanswered = sum(answer is None for answer, _ in pairs)
    scores: dict[str, Any] = {
        "accuracy_image": percent([question.score for question in image_questions]) if image_questions else None,
        "accuracy_all": percent([question.score for question in questions]),
        "n_image": len(image_questions),
        "n_all": len(questions),
        "unanswered": unanswered,
        "parse_failures": sum(question.parsed is None for question in questions) - unanswered,
    }
    scores |= _groups(questions, [row for _, row in pairs])
    scores["protocol"] = {"split": "test", "parser": BENCHMARK.variants[inputs.variant]}
    notes = (f"{unanswered} of {len(pairs)} questions have no answer and count as wrong",) if unanswered else ()
    return Report(len(headline_of), headline, scores, questions, notes)


def _grade(answer: Answer | None, row: Row, variant: str) -> QuestionScore:
    gold = LETTERS[row["answer"]]
    letter = _PARSERS[variant](answer.text) if answer else FAILED
    offered = variant == HARNESS or letter in _OPTIONS[: len(row["choices"])]
    identity = row["id"] if answer is None else answer.id
    return QuestionScore(identity, letter if letter != FAILED else None, gold, float(offered and letter == gold))


def _image_questions(pairs: Sequence[tuple[Answer | None, Row]]) -> list[bool]:
    """Which questions have an image: by the stored prompt, as in the official program; by the problem without one.

    To that program a question without answer has no image, so that leaving answers out would raise the accuracy. Here
    the problem says whether it has one; unless the run showed no images at all, which an answered question tells.
    """
    told = [answer is not None and answer.prompt is not None for answer, _ in pairs]
    held = [bool(row.get("image")) for _, row in pairs]
    tagged = [answer is not None and _IMAGE_TAG in (answer.prompt or "") for answer, _ in pairs]
    if not any(tagged) and any(known and has for known, has in zip(told, held, strict=True)):
        return tagged
    return [tag if known else has for tag, known, has in zip(tagged, told, held, strict=True)]


def _groups(questions: Sequence[QuestionScore], rows: Sequence[Row]) -> dict[str, Any]:
    """Over all questions: subjects and grades, as ScienceQA's own tables split them."""
    groups: dict[str, Any] = {}
    for column in ("subject", "grade"):
        if any(row.get(column) for row in rows):
            groups[column] = by_group(questions, [row.get(column) for row in rows])
    return groups


LAYOUTS = (
    Layout(
        LLAVA, "test", "scienceqa/llava_test_CQM-A.json", "scienceqa/images/test", "scienceqa", id="id", picture="image"
    ),
    Layout(PARQUET, "test", "ScienceQA-IMG", annotations="", id="", family="subject"),
)


def stored_prompt(prompt: Prompt) -> str:
    """With the image tag, by which the official program tells image questions from others."""
    return f"{_IMAGE_TAG}\n{prompt.text}" if prompt.images else prompt.text


BENCHMARK = Benchmark(
    name="scienceqa-img",
    variants={
        REFERENCE: "LLaVA's: letter, 'X. ...' or 'The answer is X.'",
        LLAVA_HR: "LLaVA-HR's: any longer answer that begins with A-E",
        HARNESS: "lmms-eval's: letter in any case, or 'X.'",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
    stored_prompt=stored_prompt,
)
