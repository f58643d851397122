"""VQAv2: soft accuracy on val2014 (a proxy), and the server's file for test-dev. Source: spec benchmarks 2, 3."""

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
from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.files.fields import SCALAR, check_fields
from dpn_platform.benchmarks.files.sources import read_rows
from dpn_platform.benchmarks.prompts import HARNESS_SHORT_LIMIT, SHORT, SHORT_LIMIT
from dpn_platform.benchmarks.vqa.metric import grade_harness, grade_official, grade_submitted
from dpn_platform.benchmarks.vqa.normaliser import normalise_textvqa
from dpn_platform.benchmarks.vqa.report import HUMAN_ANSWERS, refuse_private_gold, soft_report
from dpn_platform.config.errors import DpnError

TITLE = "VQAv2"
OFFICIAL = "official"
_EVALUATORS = {REFERENCE: grade_submitted, OFFICIAL: grade_official, HARNESS: grade_harness}
#: the proxy is never to stand in a column called test-dev
PROXY_SPLIT = "val2014 (proxy, not comparable with test-dev)"
LIMITS = {REFERENCE: SHORT_LIMIT, OFFICIAL: SHORT_LIMIT, HARNESS: HARNESS_SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The question as it is, with SHORT."""
    return Prompt(record["text"] if "text" in record else record["question"] + SHORT, LIMITS[variant])


def score(inputs: Inputs) -> Report:
    """Soft accuracy of the answers, overall, per answer type and per question type.

    Raises:
        DpnError: the files do not fit each other, or the annotations are of a test split.
    """
    rows = read_rows(inputs.annotations, "annotations", "questions", split="validation")
    groups = {"answer_type": "answer_type", "question_type": "question_type"}
    check_fields(
        rows, inputs.annotations, TITLE, {"question_id": SCALAR}, answers=HUMAN_ANSWERS, **dict.fromkeys(groups, SCALAR)
    )
    refuse_private_gold(rows, inputs, TITLE, "test split")
    answers = read_answers(inputs.predictions)
    pairs = pair(answers, lambda answer: answer.key, rows, lambda row: str(row["question_id"]), inputs, TITLE)
    parser = BENCHMARK.variants[inputs.variant]
    return soft_report(pairs, _EVALUATORS[inputs.variant], inputs, groups, split=PROXY_SPLIT, parser=parser)


def submission(inputs: Inputs, suffix: str) -> bytes:
    """The server's list: every id of the question file, an empty answer where the model was not asked.

    Raises:
        DpnError: no question file, or an answer to a question that is not in it.
    """
    if inputs.questions is None:
        raise DpnError("vqav2: --submission needs --questions llava_vqav2_mscoco_test2015.jsonl: every id must be sent")
    rows = read_rows(inputs.questions, "questions")
    check_fields(rows, inputs.questions, TITLE, {"question_id": SCALAR})
    given = read_answers(inputs.predictions)
    answers = {answer.key: normalise_textvqa(answer.text) for answer in given}
    if len(answers) != len(given):
        raise DpnError(f"{inputs.predictions}: {len(given)} answers to {len(answers)} questions; each takes one answer")
    unknown = set(answers) - {str(row["question_id"]) for row in rows}
    if unknown:
        raise DpnError(
            f"{inputs.predictions}: {len(unknown)} answered questions are not in {inputs.questions} ('{min(unknown)}')"
        )
    listed = [{"question_id": row["question_id"], "answer": answers.get(str(row["question_id"]), "")} for row in rows]
    return json.dumps(listed).encode()


_SERVER = "scored by the server alone; VQAv2's val2014 is a proxy and not comparable"
LAYOUTS = (
    Layout(
        LLAVA,
        "test-dev2015",
        "vqav2/llava_vqav2_mscoco_test-dev2015.jsonl",
        "vqav2/test2015",
        picture="image",
        caution=_SERVER,
        all_questions="vqav2/llava_vqav2_mscoco_test2015.jsonl",
    ),
    Layout(
        LLAVA, "test2015", "vqav2/llava_vqav2_mscoco_test2015.jsonl", "vqav2/test2015", picture="image", caution=_SERVER
    ),
    Layout(
        PARQUET, "validation", "data", annotations="", picture="image_id", family="question_type", caution=PROXY_SPLIT
    ),
    Layout(PARQUET, "testdev", "data", picture="image_id", caution=_SERVER),
    Layout(PARQUET, "test", "data", picture="image_id", caution=_SERVER),
)

BENCHMARK = Benchmark(
    name="vqav2",
    variants={
        REFERENCE: "LLaVA's: TextVQA's normaliser on the answer, then the official program",
        OFFICIAL: "the official program on the answer as it is",
        HARNESS: "lmms-eval's: both sides always normalised",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    submission=submission,
    layouts=LAYOUTS,
)
