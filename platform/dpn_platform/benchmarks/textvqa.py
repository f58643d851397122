"""TextVQA val: soft accuracy with M4C's normaliser. Source: spec benchmarks 2, 3."""

from __future__ import annotations

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
from dpn_platform.benchmarks.files.fields import SCALAR, TEXT, check_fields
from dpn_platform.benchmarks.files.sources import need_columns, read_rows
from dpn_platform.benchmarks.prompts import SHORT, SHORT_LIMIT
from dpn_platform.benchmarks.vqa.metric import grade_textvqa
from dpn_platform.benchmarks.vqa.report import HUMAN_ANSWERS, refuse_private_gold, soft_report
from dpn_platform.config.errors import DpnError

TITLE = "TextVQA"
_OCR_LINE = "Reference OCR token: "
LIMITS = {REFERENCE: SHORT_LIMIT, HARNESS: SHORT_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The capitalised question (all letters but the first become lower case), the OCR line (reference), SHORT."""
    if "text" in record:
        return Prompt(record["text"], LIMITS[variant])
    ocr = "" if variant == HARNESS else f"\n{_OCR_LINE}{', '.join(record['ocr_tokens'] or ())}"
    return Prompt(f"{record['question'].capitalize()}{ocr}{SHORT}", LIMITS[variant])


def question_of(text: str | None) -> str | None:
    """The question line of a stored prompt, in lower case: what annotations are looked up by beside the image."""
    lines = (text or "").split("\n")
    if len(lines) == 3 and lines[0].startswith(_OCR_LINE.strip()):
        return lines[1].lower()
    return lines[0].lower() if len(lines) in (2, 3) else None


def score(inputs: Inputs) -> Report:
    """Soft accuracy over all questions; the OCR line of the stored prompts is reported, for it changes the benchmark.

    Raises:
        DpnError: the files do not fit each other, or the annotations are of the test split.
    """
    rows = read_rows(inputs.annotations, "data", split="validation")
    more = {"question_id": SCALAR, "image_id": SCALAR, "answers": HUMAN_ANSWERS}
    check_fields(rows, inputs.annotations, TITLE, {"question": TEXT}, **more)
    refuse_private_gold(rows, inputs, TITLE, "test split")
    answers = read_answers(inputs.predictions)
    pairs = _pairs(answers, rows, inputs)
    with_ocr = sum(_OCR_LINE in (answer.prompt or "") for answer in answers)
    prompts = "with OCR line" if with_ocr == len(answers) else "without OCR line" if with_ocr == 0 else "mixed"
    if any(answer.prompt is None for answer in answers):
        prompts = "unknown: the answer file keeps no prompts"
    return soft_report(
        pairs, grade_textvqa, inputs, {}, split="val v0.5.1", parser=BENCHMARK.variants[inputs.variant], prompts=prompts
    )


def _pairs(answers: list[Answer], rows: list[Row], inputs: Inputs) -> list[tuple[Answer, Row]]:
    """LLaVA's question_id is the image's, and repeats: the question tells which. Other files have ids of their own."""
    own_ids = {str(row["question_id"]) for row in rows if "question_id" in row}
    if all(answer.key in own_ids for answer in answers):
        need_columns(rows, inputs.annotations, TITLE, "question_id")
        return pair(answers, lambda answer: answer.key, rows, lambda row: str(row["question_id"]), inputs, TITLE)
    need_columns(rows, inputs.annotations, TITLE, "image_id")
    for answer in answers:
        if question_of(answer.prompt) is None:
            raise DpnError(
                f"{inputs.predictions}: the answer to '{answer.key}' keeps no prompt of the form question, "
                "(OCR line,) instruction; without it TextVQA's questions to one image cannot be told apart"
            )
    # Annotations of one image and question are one to the official program: the last.
    last = {_row_key(row): row for row in rows}
    merged = [last[_row_key(row)] for row in rows]
    return pair(answers, lambda answer: (answer.key, question_of(answer.prompt)), merged, _row_key, inputs, TITLE)


def _row_key(row: Row) -> tuple[str, str]:
    return str(row["image_id"]), row["question"].lower()


LAYOUTS = (
    Layout(
        LLAVA,
        "val",
        "textvqa/llava_textvqa_val_v051_ocr.jsonl",
        "textvqa/train_images",
        "textvqa/TextVQA_0.5.1_val.json",
        picture="image",
    ),
    Layout(PARQUET, "validation", "data", annotations="", picture="image_id"),
)

BENCHMARK = Benchmark(
    name="textvqa",
    variants={
        REFERENCE: "M4C's normaliser on both sides; prompts with the OCR line",
        HARNESS: "M4C's normaliser on both sides; prompts without the OCR line",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=LAYOUTS,
)
