"""MMMU validation: choice and open questions of thirty subjects. Source: spec benchmarks 3."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dpn_platform.benchmarks.contract import (
    HARNESS,
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
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.mmmu.files import (
    CHOICE,
    DISCIPLINES,
    TITLE,
    option_list,
    options_of,
    read_gold,
    subject_of,
)
from dpn_platform.benchmarks.mmmu.parser import open_is_correct, parse_choice, parse_open, random_letter
from dpn_platform.benchmarks.prompts import LETTER_SENTENCE, LETTERS, SHORT_SENTENCE, lettered
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group, percent
from dpn_platform.config.errors import DpnError

AUTHORS = "authors"
#: limits of LLaVA-HR's run, of the benchmark authors' and of lmms-eval's
LIMITS = {REFERENCE: 16, AUTHORS: 128, HARNESS: 128}
_PICTURE = re.compile(r"<image \d+>|<img=")
_MANY_PICTURES = "INVALID GENERATION FOR MULTIPLE IMAGE INPUTS"
_IMAGES = tuple(f"image_{number}" for number in range(1, 8))


def prompt(record: Row, variant: str) -> Prompt:
    """Question, options and the closing sentence.

    LLaVA's run shows image_1 alone and does not ask questions whose options hold several pictures.
    """
    is_choice = record["question_type"] == CHOICE
    options = option_list(record)
    if variant == HARNESS:
        body = f"{record['question']}\n{lettered(options)}" if is_choice else record["question"]
        closing = LETTER_SENTENCE if is_choice else SHORT_SENTENCE
        shown = tuple(name for name in _IMAGES if f"<{name.replace('_', ' ')}>" in body)
        return Prompt(f"{body}\n\n{closing}", LIMITS[variant], shown)
    gap = "\n" if variant == AUTHORS else ""
    listed = "".join(f"({letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False))
    text = f"{record['question']}\n{gap}"
    text += f"{listed}{gap}{LETTER_SENTENCE}" if is_choice else SHORT_SENTENCE
    fixed = None
    if sum(len(_PICTURE.findall(option)) for option in options) > 1:
        fixed = random_letter(LETTERS[: len(options)], str(record["id"])) if is_choice else _MANY_PICTURES
    return Prompt(text, LIMITS[variant], ("image_1",), fixed)


def score(inputs: Inputs) -> Report:
    """Accuracy over all questions, per subject and per discipline; random fallbacks counted, and scored as wrong too.

    Raises:
        DpnError: the files do not fit each other, or the annotations are of the test split.
    """
    rows = read_gold(inputs)
    answers = read_answers(inputs.predictions)
    pairs = pair(answers, lambda answer: answer.key, rows, lambda row: str(row["id"]), inputs, TITLE)
    questions = [_grade(answer, row, inputs) for answer, row in pairs]
    headline = accuracy_headline("accuracy", [question.score for question in questions], inputs.seed)
    subjects = [subject_of(row) for row in rows]
    scores: dict[str, Any] = {
        "accuracy": headline.value,
        "accuracy_fallbacks_wrong": percent([item.score * (not item.random_fallback) for item in questions]),
        "random_fallbacks": sum(item.random_fallback for item in questions),
        "discipline": by_group(questions, [DISCIPLINES.get(subject) for subject in subjects]),
        "subject": by_group(questions, subjects),
        "question_type": by_group(questions, [row["question_type"] for row in rows]),
        "protocol": {"split": _splits(rows), "parser": BENCHMARK.variants[inputs.variant]},
    }
    return Report(len(questions), headline, scores, questions)


def _grade(answer: Answer, row: Row, inputs: Inputs) -> QuestionScore:
    gold = row["answer"]
    if row["question_type"] != CHOICE:
        said = parse_open(answer.text)
        return QuestionScore(answer.id, said, gold, float(open_is_correct(said, gold)))
    options = options_of(row, answer, inputs.predictions)
    if options is None:
        _need_parsed(answer, inputs)
        return QuestionScore(answer.id, answer.text, gold, float(answer.text == gold))
    choice = parse_choice(answer.text, options, answer.key, loose=inputs.variant == HARNESS)
    correct = choice.letter in gold if isinstance(gold, list) else choice.letter == gold
    return QuestionScore(answer.id, choice.letter, gold, float(correct), random_fallback=choice.is_random)


def _need_parsed(answer: Answer, inputs: Inputs) -> None:
    """The authors' gold dictionary has no options: only letters that are parsed already can be compared with it.

    Raises:
        DpnError: the answer is more than a letter.
    """
    if len(answer.text) != 1 or answer.text not in LETTERS:
        raise DpnError(
            f"{inputs.predictions}: the answer to '{answer.key}' is {answer.text[:40]!r}, and {inputs.annotations} has "
            "no options to read it with; give the parquet files of MMMU as --annotations or --questions"
        )


def _splits(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({str(row["id"]).partition("_")[0] for row in rows}))


LAYOUTS = (Layout(PARQUET, "validation", "", annotations="", id="id"),)

BENCHMARK = Benchmark(
    name="mmmu",
    variants={
        REFERENCE: "the authors' parser, random fallbacks seeded by question; LLaVA-HR's prompt",
        AUTHORS: "the authors' parser and prompt (a blank line before options and instruction)",
        HARNESS: "lmms-eval's letter rule ('X.' and 'X ' count) and prompt, all images",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
