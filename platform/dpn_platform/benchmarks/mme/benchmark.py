"""MME: yes/no questions in pairs; accuracy plus the share of images with both right. Source: spec benchmarks 3."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dpn_platform.benchmarks.contract import (
    HARNESS,
    LLAVA,
    PARQUET,
    POINTS,
    REFERENCE,
    Benchmark,
    Headline,
    Inputs,
    Layout,
    Prompt,
    QuestionScore,
    Report,
    Row,
)
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import Answer
from dpn_platform.benchmarks.mme.files import (
    CLOSING,
    COGNITION,
    PERCEPTION,
    TITLE,
    bare_question,
    read_gold,
    read_mme_answers,
    stem,
)
from dpn_platform.benchmarks.prompts import HARNESS_SHORT_LIMIT, SHORT, SHORT_LIMIT
from dpn_platform.benchmarks.statistics.aggregation import percent
from dpn_platform.benchmarks.statistics.bootstrap import interval, resampled_means
from dpn_platform.config.errors import DpnError

OTHER = "other"
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: HARNESS_SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The question without its closing instruction, with SHORT."""
    return Prompt(
        record["text"] if "text" in record else record["question"].replace(CLOSING, "").strip() + SHORT, LIMITS[variant]
    )


def parse_reference(text: str) -> str:
    """The official rule: yes or no as a whole, else within the first four characters; leading blanks count."""
    return _by_prefix(text.lower())


def parse_harness(text: str) -> str:
    """lmms-eval's: blanks and full stops go first, and a single y or n counts."""
    text = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(text) or _by_prefix(text)


def _by_prefix(text: str) -> str:
    return "yes" if "yes" in text[:4] else "no" if "no" in text[:4] else OTHER


_PARSERS: dict[str, Callable[[str], str]] = {REFERENCE: parse_reference, HARNESS: parse_harness}


def score(inputs: Inputs) -> Report:
    """The perception sum (headline, at most 2000), the cognition sum (at most 800), and every subtask.

    Raises:
        DpnError: the files do not fit each other, or an image's questions do not come in pairs.
    """
    answers = read_mme_answers(inputs.predictions)
    pairs = _pairs(answers, read_gold(inputs.annotations), inputs)
    questions, by_subtask = [], defaultdict(list)
    asked: Counter[tuple[str, str]] = Counter()
    for answer, row in pairs:
        image = (row["category"], row["image"])
        question = _grade(answer, row, inputs.variant, asked[image] // 2)
        asked[image] += 1
        questions.append(question)
        by_subtask[row["category"]].append((row, question))
    subtasks = {name: _subtask(members) for name, members in by_subtask.items()}
    perception = [name for name in PERCEPTION if name in subtasks]
    if not perception:
        raise DpnError(f"{inputs.annotations}: no perception subtask (allowed: {', '.join(PERCEPTION)})")
    draws = [resampled_means(subtasks[name]["images"], inputs.seed, PERCEPTION.index(name)) for name in perception]
    for figures in subtasks.values():
        del figures["images"]
    total = sum(subtasks[name]["score"] for name in perception)
    headline = Headline("perception", total, interval(np.sum(draws, axis=0)), POINTS)
    cognition = [name for name in COGNITION if name in subtasks]
    scores: dict[str, Any] = {
        "perception": headline.value,
        "cognition": sum(subtasks[name]["score"] for name in cognition) if cognition else None,
        "subtasks": {name: subtasks[name] for name in (*PERCEPTION, *COGNITION) if name in subtasks},
        "parse_failures": sum(question.parsed == OTHER for question in questions),
        "absent_subtasks": [name for name in (*PERCEPTION, *COGNITION) if name not in subtasks],
        "protocol": {"split": "all", "parser": BENCHMARK.variants[inputs.variant]},
    }
    return Report(sum(subtasks[name]["n"] for name in perception), headline, scores, questions)


def _grade(answer: Answer, row: Row, variant: str, pair_number: int) -> QuestionScore:
    """One question; its unit is the image, and the number of the pair where an image has several."""
    parsed = _PARSERS[variant](answer.text)
    return QuestionScore(
        answer.id,
        parsed,
        row["answer"],
        float(parsed == row["answer"]),
        part=row["category"],
        unit=row["image"] + (f" pair {pair_number + 1}" if pair_number else ""),
        in_headline=row["category"] in PERCEPTION,
        prompt=answer.prompt,
    )


def _subtask(members: Sequence[tuple[Row, QuestionScore]]) -> dict[str, Any]:
    """One subtask's figures; `images`: what each image adds to the mean score (0, 50 or 200)."""
    scores = [question.score for _, question in members]
    both = _both_right(members)
    accuracy, accuracy_plus = percent(scores), percent([float(right == 2) for right in both])
    return {
        "n": len(members),
        "score": accuracy + accuracy_plus,
        "accuracy": accuracy,
        "accuracy_plus": accuracy_plus,
        "yes_ratio": sum(question.parsed == "yes" for _, question in members) / len(members),
        "other": sum(question.parsed == OTHER for _, question in members),
        "images": [50.0 * right + 100.0 * (right == 2) for right in both],
    }


def _both_right(members: Sequence[tuple[Row, QuestionScore]]) -> list[int]:
    """Right answers (0 to 2) of every pair: an image's questions, two by two.

    Raises:
        DpnError: an odd number of questions to one image.
    """
    of_image: Mapping[str, list[float]] = defaultdict(list)
    for row, question in members:
        of_image[row["image"]].append(question.score)
    for image, scores in of_image.items():
        if len(scores) % 2:
            raise DpnError(
                f"MME asks two questions of every image; {members[0][0]['category']}/{image} has {len(scores)}"
            )
    return [int(sum(scores[i : i + 2])) for scores in of_image.values() for i in range(0, len(scores), 2)]


def _pairs(answers: list[Answer], gold: list[Row], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """By subtask, image and question; by subtask and image in order where the answer file keeps no prompts.

    The answers may leave out cognition as a whole: perception is what the papers print.
    """
    if not any(answer.key.partition("/")[0] in COGNITION for answer in answers):
        gold = [row for row in gold if row["category"] not in COGNITION]
    with_question = all(answer.prompt is not None for answer in answers)

    def answer_key(answer: Answer) -> tuple[str, ...]:
        subtask, _, image = answer.key.partition("/")
        return (subtask, stem(image), bare_question(answer.prompt or "")) if with_question else (subtask, stem(image))

    def row_key(row: Row) -> tuple[str, ...]:
        key = (row["category"], row["image"], row["question"])
        return key if with_question else key[:2]

    return pair(answers, answer_key, gold, row_key, inputs, TITLE)


LAYOUTS = (
    Layout(
        LLAVA,
        "all",
        "MME/llava_mme.jsonl",
        "MME/MME_Benchmark_release_version",
        "MME/MME_Benchmark_release_version",
        picture="image",
        family="category",
    ),
    Layout(PARQUET, "test", "data", annotations="", picture="question_id", family="category"),
)

BENCHMARK = Benchmark(
    name="mme",
    variants={
        REFERENCE: "official: yes or no within the first four characters",
        HARNESS: "lmms-eval's: blanks and full stops removed first, y and n count",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
