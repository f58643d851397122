"""VizWiz: soft accuracy on val (a proxy), and the server's file for test. Source: spec benchmarks 2, 3."""

from __future__ import annotations

import json

from dpn_platform.benchmarks.contract import (
    HARNESS,
    LLAVA,
    PARQUET,
    REFERENCE,
    Benchmark,
    Inputs,
    Layout,
    Prompt,
    Report,
    Row,
)
from dpn_platform.benchmarks.files.alignment import pair
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.files.fields import SCALAR, check_fields
from dpn_platform.benchmarks.files.sources import need_columns, read_rows
from dpn_platform.benchmarks.prompts import SHORT_LIMIT, UNANSWERABLE
from dpn_platform.benchmarks.vqa.metric import grade_submitted, grade_textvqa
from dpn_platform.benchmarks.vqa.normaliser import normalise_textvqa
from dpn_platform.benchmarks.vqa.report import HUMAN_ANSWERS, refuse_private_gold, soft_report
from dpn_platform.config.errors import DpnError

TITLE = "VizWiz"
_EVALUATORS = {REFERENCE: grade_submitted, HARNESS: grade_textvqa}
PROXY_SPLIT = "val (proxy, not comparable with test-dev)"
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The capitalised question with the two closing sentences."""
    return Prompt(
        record["text"] if "text" in record else record["question"].capitalize() + UNANSWERABLE, LIMITS[variant]
    )


def score(inputs: Inputs) -> Report:
    """Soft accuracy of the answers, overall and per answer type (yes/no, number, other, unanswerable).

    Raises:
        DpnError: the files do not fit each other, or the annotations are of the test split.
    """
    rows = read_rows(inputs.annotations, "annotations", split="val")
    groups = {"answer_type": "answer_type" if "answer_type" in rows[0] else "category"}
    more = {"question_id": SCALAR, "answers": HUMAN_ANSWERS, groups["answer_type"]: SCALAR}
    check_fields(rows, inputs.annotations, TITLE, {}, **more)
    refuse_private_gold(rows, inputs, TITLE, "test split")
    answers = read_answers(inputs.predictions)
    pairs = _pairs(answers, rows, inputs)
    parser = BENCHMARK.variants[inputs.variant]
    return soft_report(pairs, _EVALUATORS[inputs.variant], inputs, groups, split=PROXY_SPLIT, parser=parser)


def submission(inputs: Inputs, suffix: str) -> bytes:
    """The server's list, image by image, in the order of the question file.

    Raises:
        DpnError: no question file, or a question of it without answer.
    """
    if inputs.questions is None:
        raise DpnError("vizwiz: --submission needs --questions llava_test.jsonl, which names the images")
    rows = read_rows(inputs.questions)
    check_fields(rows, inputs.questions, TITLE, {"question_id": SCALAR}, image=SCALAR)
    asked = Inputs(inputs.predictions, inputs.questions)
    answers = read_answers(inputs.predictions)
    pairs = pair(answers, lambda answer: answer.key, rows, lambda row: str(row["question_id"]), asked, TITLE)
    return json.dumps(
        [
            # In the parquet the picture's name is the question's id.
            {"image": row.get("image", row["question_id"]), "answer": normalise_textvqa(answer.text)}
            for answer, row in pairs
        ]
    ).encode()


def _pairs(answers: list[Answer], rows: list[Row], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """By question_id where the annotations have one (parquet); else by the image, one question each.

    The val annotations carry no ids: LLaVA's answers number the questions, and its question file names the images.
    """
    if "question_id" in rows[0]:
        need_columns(rows, inputs.annotations, TITLE, "question_id")
        return pair(answers, lambda answer: answer.key, rows, lambda row: str(row["question_id"]), inputs, TITLE)
    check_fields(rows, inputs.annotations, TITLE, {"image": SCALAR})
    images = {answer.key: answer.key for answer in answers}
    if inputs.questions is not None:
        asked = read_rows(inputs.questions)
        check_fields(asked, inputs.questions, TITLE, {"question_id": SCALAR, "image": SCALAR})
        images |= {str(row["question_id"]): row["image"] for row in asked}
    elif all(answer.key.isdigit() for answer in answers):
        images = {str(place): row["image"] for place, row in enumerate(rows)}
    return pair(
        answers, lambda answer: images.get(answer.key, answer.key), rows, lambda row: row["image"], inputs, TITLE
    )


_SERVER = "scored by the server alone; VizWiz's val is a proxy and not comparable"
LAYOUTS = (
    Layout(LLAVA, "test", "vizwiz/llava_test.jsonl", "vizwiz/test", picture="image", caution=_SERVER),
    Layout(PARQUET, "val", "data", annotations="", family="category", caution=PROXY_SPLIT),
    Layout(PARQUET, "test", "data", caution=_SERVER),
)

BENCHMARK = Benchmark(
    name="vizwiz",
    variants={
        REFERENCE: "LLaVA's: TextVQA's normaliser on the answer, then the official program",
        HARNESS: "lmms-eval's: TextVQA's normaliser on both sides",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    submission=submission,
    layouts=LAYOUTS,
)
