"""GQA testdev-balanced: exact match. Source: spec benchmarks 3."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
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
from dpn_platform.benchmarks.files.fields import ANYTHING, SCALAR, TEXT, check_fields, object_of, optional
from dpn_platform.benchmarks.files.sources import read_document, read_rows, rows_by_id
from dpn_platform.benchmarks.gqa.distribution import distribution
from dpn_platform.benchmarks.prompts import HARNESS_SHORT_LIMIT, SHORT, SHORT_LIMIT
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group
from dpn_platform.config.errors import DpnError

TITLE = "GQA"
#: need the choices and scene graphs, which the newer release lacks: absent, never 0
NOT_COMPUTABLE = ("validity", "plausibility", "grounding")
_GROUPS = object_of("an object with the question's global group", **{"global": optional(SCALAR)})
_TYPES = object_of("an object with structural and semantic type", structural=optional(TEXT), semantic=optional(TEXT))
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: HARNESS_SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The question as it is, with SHORT."""
    return Prompt(record["text"] if "text" in record else record["question"] + SHORT, LIMITS[variant])


def parse_reference(text: str) -> str:
    """All full stops at the end go, the rest in lower case; nothing else changes."""
    return text.rstrip(".").lower()


def fold_harness(text: str) -> str:
    """lmms-eval's comparison: lower case, without ASCII punctuation."""
    return text.lower().translate(_WITHOUT_PUNCTUATION)


def score(inputs: Inputs) -> Report:
    """Exact match, overall, binary against open, per structural and semantic type; and the distribution's distance.

    Raises:
        DpnError: the files do not fit each other; a question without answer is an error, never a zero.
    """
    rows = _annotations(inputs)
    answers = read_answers(inputs.predictions)
    pairs = pair(answers, lambda answer: answer.key, rows, lambda row: str(row["id"]), inputs, TITLE)
    parse, fold_gold = _RULES[inputs.variant]
    questions = []
    for answer, row in pairs:
        parsed = parse(answer.text)
        questions.append(QuestionScore(answer.id, parsed, row["answer"], float(parsed == fold_gold(row["answer"]))))
    headline = accuracy_headline("accuracy", [question.score for question in questions], inputs.seed)
    scores: dict[str, Any] = {"accuracy": headline.value}
    structural = [_types(row).get("structural") for row in rows]
    if any(structural):
        scores |= by_group(questions, [kind and ("open" if kind == "query" else "binary") for kind in structural])
        scores["structural_type"] = by_group(questions, structural)
        scores["semantic_type"] = by_group(questions, [_types(row).get("semantic") for row in rows])
    groups = [_group(row) for row in rows]
    distance = distribution(
        (group, fold_gold(row["answer"]), question.parsed)
        for group, row, question in zip(groups, rows, questions, strict=True)
    )
    if distance is not None:
        scores["distribution"] = distance
    scores["not_computable"] = [*NOT_COMPUTABLE, *(["distribution"] if distance is None else [])]
    scores["protocol"] = {"split": "testdev_balanced", "parser": BENCHMARK.variants[inputs.variant]}
    return Report(len(questions), headline, scores, questions)


def _annotations(inputs: Inputs) -> list[Row]:
    """Rows with `id`; the official file is a dictionary from id to question.

    Raises:
        DpnError: the file is not GQA's, or is of a split without answers.
    """
    document = read_document(inputs.annotations, split="testdev")
    rows = rows_by_id(document) or read_rows(inputs.annotations, split="testdev")
    needed = {"id": SCALAR, "question": ANYTHING, "imageId": ANYTHING}
    check_fields(rows, inputs.annotations, TITLE, needed, answer=TEXT, types=_TYPES, groups=_GROUPS)
    hidden = sum(row.get("answer") is None for row in rows)
    if hidden:
        raise DpnError(
            f"{inputs.annotations}: {hidden} of {len(rows)} questions have no answer: a test or challenge split; "
            "GQA is scored on testdev_balanced"
        )
    return rows


def _types(row: Row) -> Mapping[str, Any]:
    return row.get("types") or {}


def _group(row: Row) -> str | None:
    """The global group of a balanced question; the official program's distribution is over no others."""
    group = (row.get("groups") or {}).get("global")
    return None if group is None or row.get("isBalanced") is False else str(group)


_RULES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    REFERENCE: (parse_reference, str),
    HARNESS: (fold_harness, fold_harness),
}

LAYOUTS = (
    Layout(
        LLAVA,
        "testdev_balanced",
        "gqa/llava_gqa_testdev_balanced.jsonl",
        "gqa/data/images",
        "gqa/data/testdev_balanced_questions.json",
        picture="image",
    ),
    Layout(
        PARQUET,
        "testdev",
        "testdev_balanced_instructions",
        "testdev_balanced_images",
        "",
        id="id",
        picture="imageId",
    ),
)

BENCHMARK = Benchmark(
    name="gqa",
    variants={
        REFERENCE: "final full stops removed, lower case, exact match",
        HARNESS: "lmms-eval's: exact match ignoring case and ASCII punctuation",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
