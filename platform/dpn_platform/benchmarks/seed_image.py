"""SEED-Bench, image part: the answer must equal the letter. Source: spec benchmarks 3."""

from __future__ import annotations

from collections.abc import Callable
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
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.files.fields import SCALAR, TEXT, WHOLE, check_fields, one_of, whole_number
from dpn_platform.benchmarks.files.sources import read_rows
from dpn_platform.benchmarks.prompts import LETTER, SHORT_LIMIT, lettered
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group, group_score
from dpn_platform.config.errors import DpnError

TITLE = "SEED-Bench"
TYPES = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
    10: "Action Recognition",
    11: "Action Prediction",
    12: "Procedure Understanding",
}
_LETTERS = "ABCD"
_CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """Question, four lettered choices, LETTER."""
    if "text" in record:
        return Prompt(record["text"], LIMITS[variant])
    choices = lettered(record[choice] for choice in _CHOICES)
    return Prompt(f"{record['question']}\n{choices}{LETTER}", LIMITS[variant])


def parse_harness(text: str) -> str:
    """lmms-eval's: the first character, in any case."""
    return text.strip()[:1].upper()


_PARSERS: dict[str, Callable[[str], str]] = {REFERENCE: str, HARNESS: parse_harness}


def score(inputs: Inputs) -> Report:
    """Accuracy on images (headline), on video frames where they were answered, in total, and per question type.

    Raises:
        DpnError: the files do not fit each other, or there is no image question.
    """
    rows = _annotations(inputs)
    answers = read_answers(inputs.predictions)
    answered = {answer.key for answer in answers}
    videos = [row for row in rows if row["data_type"] == "video"]
    if not any(str(row["question_id"]) in answered for row in videos):
        rows = [row for row in rows if row["data_type"] != "video"]
    # An id that occurs twice is one to the official program, which takes the last answer for both questions.
    last = {answer.key: answer for answer in answers}
    merged = [last[answer.key] for answer in answers]
    pairs = pair(merged, lambda answer: answer.key, rows, lambda row: str(row["question_id"]), inputs, TITLE)
    questions = []
    for answer, row in pairs:
        parsed = _PARSERS[inputs.variant](answer.text)
        score = float(parsed == row["answer"])
        questions.append(
            QuestionScore(answer.id, parsed, row["answer"], score, in_headline=row["data_type"] == "image")
        )
    kinds = [row["data_type"] for row in rows]
    image = [question.score for question in questions if question.in_headline]
    video = [question.score for question, kind in zip(questions, kinds, strict=True) if kind == "video"]
    headline = accuracy_headline("accuracy_image", image, inputs.seed)
    scores: dict[str, Any] = {
        "accuracy_image": headline.value,
        "image": group_score(image),
        "video": group_score(video) if video else None,
        "total": group_score(image + video),
        "question_type": by_group(questions, [_type_name(row) for row in rows]),
        "parse_failures": sum(question.parsed not in tuple(_LETTERS) for question in questions),
        "protocol": {"split": "SEED-Bench-1", "parser": BENCHMARK.variants[inputs.variant]},
    }
    return Report(len(image), headline, scores, questions)


def _annotations(inputs: Inputs) -> list[Row]:
    rows = read_rows(inputs.annotations, "questions")
    needed = {"question_id": SCALAR, "data_type": TEXT, "answer": one_of(*_LETTERS)}
    check_fields(rows, inputs.annotations, TITLE, needed, question_type_id=WHOLE)
    if not any(row["data_type"] == "image" for row in rows):
        raise DpnError(f"{inputs.annotations}: no question with data_type 'image'")
    return rows


def _type_name(row: Row) -> str | None:
    kind = whole_number(row.get("question_type_id"))
    return None if kind is None else TYPES.get(kind, f"type {kind}")


LAYOUTS = (
    Layout(
        LLAVA,
        "image",
        "seed_bench/llava-seed-bench.jsonl",
        "seed_bench",
        "seed_bench/SEED-Bench.json",
        picture="image",
        is_asked=lambda row: not str(row.get("image")).startswith("SEED-Bench-video"),
    ),
    Layout(
        PARQUET,
        "test",
        "data",
        annotations="",
        picture="data_id",
        is_asked=lambda row: row.get("data_type") == "image",
    ),
)

BENCHMARK = Benchmark(
    name="seed-image",
    variants={
        REFERENCE: "LLaVA's: the answer equals the letter",
        HARNESS: "lmms-eval's: the first character, ignoring case",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
