"""POPE: is an object in the image? F1 of yes per category, and their mean. Source: spec benchmarks 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dpn_platform.benchmarks.contract import (
    HARNESS,
    LLAVA,
    PARQUET,
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
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.pope.files import CATEGORIES, labelled
from dpn_platform.benchmarks.prompts import SHORT, SHORT_LIMIT
from dpn_platform.benchmarks.statistics.bootstrap import Array, interval, resample

_NO = frozenset(("No", "no", "not"))
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The question with SHORT; LLaVA's question file has it already."""
    text = record["text"] if "text" in record else record["question"]
    return Prompt(text if text.endswith(SHORT) else text + SHORT, LIMITS[variant])


def parse_reference(text: str) -> str:
    """Before the first full stop, without commas: no if a word is exactly No, no or not; everything else is yes."""
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if _NO.intersection(words) else "yes"


def parse_harness(text: str) -> str:
    """lmms-eval's: the whole answer in lower case, which is to equal the label."""
    return text.lower().strip()


_PARSERS: dict[str, Callable[[str], str]] = {REFERENCE: parse_reference, HARNESS: parse_harness}


def score(inputs: Inputs) -> Report:
    """F1, accuracy, precision, recall and yes ratio per category, their means, and pooled over all questions.

    The headline is the mean of the categories' F1; lmms-eval's is the pooled one.

    Raises:
        DpnError: the files do not fit each other, or answers and labels are of other images or questions.
    """
    pairs = labelled(read_answers(inputs.predictions), inputs)
    questions = [_grade(answer, row, inputs.variant) for answer, row in pairs]
    of_category = {
        name: [question for question, (_, row) in zip(questions, pairs, strict=True) if row["category"] == name]
        for name in CATEGORIES
        if any(row["category"] == name for _, row in pairs)
    }
    categories = {name: _figures(members) for name, members in of_category.items()}
    pooled = _figures(questions)
    if inputs.variant == HARNESS:
        # Its yes ratio counts the labels.
        pooled["yes_ratio"] = sum(question.gold == "yes" for question in questions) / len(questions)
        headline = Headline("f1", pooled["f1"], interval(_resampled_f1(questions, inputs.seed, 0)))
    else:
        draws = [_resampled_f1(members, inputs.seed, i) for i, members in enumerate(of_category.values())]
        mean = sum(figures["f1"] for figures in categories.values()) / len(categories)
        headline = Headline("f1_mean", mean, interval(np.mean(draws, axis=0)))
    scores: dict[str, Any] = {
        "f1_mean": sum(figures["f1"] for figures in categories.values()) / len(categories),
        "category": categories,
        "pooled": pooled,
        "parse_failures": sum(question.parsed not in ("yes", "no") for question in questions),
        "absent_categories": [name for name in CATEGORIES if name not in categories],
        "protocol": {"split": "COCO val2014", "parser": BENCHMARK.variants[inputs.variant]},
    }
    return Report(len(questions), headline, scores, questions)


def _grade(answer: Answer, row: Row, variant: str) -> QuestionScore:
    parsed = _PARSERS[variant](answer.text)
    # lmms-eval pools the categories: they are no parts of its headline.
    part = None if variant == HARNESS else row["category"]
    return QuestionScore(answer.id, parsed, row["label"], float(parsed == row["label"]), part)


def _figures(questions: Sequence[QuestionScore]) -> dict[str, Any]:
    """The figures of one category; a precision, recall or F1 of nothing is 0."""
    count = {
        (parsed, gold): sum(question.parsed == parsed and question.gold == gold for question in questions)
        for parsed in ("yes", "no")
        for gold in ("yes", "no")
    }
    hits, false_yes, false_no = count["yes", "yes"], count["yes", "no"], count["no", "yes"]
    return {
        "n": len(questions),
        "f1": 100.0 * _ratio(2 * hits, 2 * hits + false_yes + false_no),
        "accuracy": 100.0 * _ratio(hits + count["no", "no"], len(questions)),
        "precision": 100.0 * _ratio(hits, hits + false_yes),
        "recall": 100.0 * _ratio(hits, hits + false_no),
        "yes_ratio": _ratio(hits + false_yes, len(questions)),
        "true_positives": hits,
        "true_negatives": count["no", "no"],
        "false_positives": false_yes,
        "false_negatives": false_no,
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _resampled_f1(questions: Sequence[QuestionScore], seed: int, stratum: int) -> Array:
    """F1 in percent of every draw of these questions."""
    kinds, counts = resample([(str(question.parsed), question.gold) for question in questions], seed, stratum)
    column = {kind: counts[:, place] for place, kind in enumerate(kinds)}
    nothing = np.zeros(len(counts))
    hits = column.get(("yes", "yes"), nothing)
    wrong = column.get(("yes", "no"), nothing) + column.get(("no", "yes"), nothing)
    return 100.0 * np.divide(2 * hits, 2 * hits + wrong, out=np.zeros(len(counts)), where=2 * hits + wrong > 0)


LAYOUTS = (
    Layout(
        LLAVA,
        "test",
        "pope/llava_pope_test.jsonl",
        "pope/val2014",
        "pope/coco",
        picture="image",
        family="category",
    ),
    Layout(PARQUET, "test", "data", annotations="", id="id", picture="image_source", family="category"),
)

BENCHMARK = Benchmark(
    name="pope",
    variants={
        REFERENCE: "LLaVA's: no, No or not in the first sentence is no, all else yes; mean of three F1",
        HARNESS: "lmms-eval's: exactly yes or no; one F1 over all questions",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
