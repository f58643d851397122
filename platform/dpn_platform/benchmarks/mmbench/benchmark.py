"""MMBench dev: circular accuracy, and the server's table for test. Source: spec benchmarks 3."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

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
from dpn_platform.benchmarks.mmbench.files import (
    TITLE,
    answer_fields,
    base_index,
    option_order,
    options_of,
    read_gold,
    rounds,
    submission,
)
from dpn_platform.benchmarks.mmbench.letter_inference import infer_letter
from dpn_platform.benchmarks.prompts import LETTER, LONG_LIMIT, is_missing, lettered
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline, by_group, percent
from dpn_platform.config.errors import DpnError

LIMITS = {REFERENCE: LONG_LIMIT, HARNESS: LONG_LIMIT}


class Rotation(NamedTuple):
    """One asked rotation of a question."""

    row: Row
    question: QuestionScore


def prompt(record: Row, variant: str) -> Prompt:
    """Hint, question and options; then LETTER. lmms-eval's has other blanks and a line above the options."""
    return Prompt(question_text(record, variant) + LETTER, LIMITS[variant])


def question_text(record: Row, variant: str) -> str:
    """The question without its post-prompt."""
    hint = "" if is_missing(record.get("hint")) else record["hint"]
    options = lettered(options_of(record).values())
    if variant == HARNESS:
        return " ".join(filter(None, (hint, record["question"], f"There are several options:\n{options}\n")))
    return "\n".join(filter(None, (hint, record["question"], options)))


def score(inputs: Inputs) -> Report:
    """Circular accuracy: a question is a hit if every rotation is right. An answer without letter counts as wrong.

    Raises:
        DpnError: the files do not fit each other, or the annotations are of the test split.
    """
    return score_table(inputs, BENCHMARK)


def score_table(inputs: Inputs, benchmark: Benchmark) -> Report:
    """The report of an MMBench table in any language."""
    rows = read_gold(inputs.annotations)
    answered = rounds(read_answers(inputs.predictions), rows, inputs)
    rotations = [Rotation(row, _grade(answer, row, inputs.predictions)) for answer, row in answered]
    of_question: dict[int, list[Rotation]] = defaultdict(list)
    for rotation in rotations:
        of_question[base_index(rotation.row)].append(rotation)
    firsts = [_first(index, members) for index, members in of_question.items()]
    circular = [_hit(first, of_question[base_index(first.row)]) for first in firsts]
    headline = accuracy_headline("circular_accuracy", [question.score for question in circular], inputs.seed)
    scores: dict[str, Any] = {
        "circular_accuracy": headline.value,
        "first_pass_accuracy": percent([first.question.score for first in firsts]),
        "rotation_accuracy": percent([rotation.question.score for rotation in rotations]),
        "n_rotations": len(rotations),
        "unresolved": sum(rotation.question.parsed is None for rotation in rotations),
    }
    for name, columns in {"l2_category": ("l2-category", "L2-category"), "category": ("category",)}.items():
        labels = [next((first.row[column] for column in columns if column in first.row), None) for first in firsts]
        if any(label is not None for label in labels):
            scores[name] = by_group(circular, labels)
    split = sorted({str(row.get("split", "dev")) for row in rows})
    scores["protocol"] = {"split": ", ".join(split), "parser": benchmark.variants[inputs.variant]}
    return Report(len(firsts), headline, scores, [rotation.question for rotation in rotations])


def _grade(answer: Answer, row: Row, uri: str) -> QuestionScore:
    """One rotation; with LLaVA's all-rounds option the letter asked for stands at another place of the options."""
    options, order = options_of(row), option_order(answer, row, uri)
    letter = infer_letter(answer.text, dict(zip(options, (options[char] for char in order), strict=True)))
    letter = order[list(options).index(letter)] if letter in options else letter
    score = float(letter == row["answer"])
    return QuestionScore(answer.id, letter, row["answer"], score, unit=str(base_index(row)))


def _first(index: int, members: list[Rotation]) -> Rotation:
    """The rotation under the question's own index.

    Raises:
        DpnError: the annotations hold rotations of a question, and not the question.
    """
    for rotation in members:
        if int(rotation.row["index"]) == index:
            return rotation
    raise DpnError(f"{TITLE}: the annotations hold rotations of question {index}, but not the question itself")


def _hit(first: Rotation, members: list[Rotation]) -> QuestionScore:
    hit = all(rotation.question.score == 1.0 for rotation in members)
    return QuestionScore(first.question.id, None, None, float(hit))


VARIANTS = {
    REFERENCE: "LLaVA's prompt; VLMEvalKit's letter inference by exact matching, unresolved is wrong",
    HARNESS: "lmms-eval's prompt; scored as the reference, for lmms-eval asks a GPT judge what is unresolved",
}

_SERVER = "scored by the server alone; the dev split has public answers"


def layouts(split: str, table: str, language: str) -> tuple[Layout, ...]:
    """Where a language's table is: LLaVA's file of one split, and the splits of the parquet data set."""
    rows = partial(Layout, id="index", picture=base_index, family="category")
    return (
        rows(LLAVA, split, table, annotations=""),
        rows(PARQUET, "dev", language, annotations=""),
        rows(PARQUET, "test", language, caution=_SERVER),
    )


BENCHMARK = Benchmark(
    name="mmbench",
    variants=VARIANTS,
    limits=LIMITS,
    prompt=prompt,
    score=score,
    submission=submission,
    layouts=layouts("dev_20230712", "mmbench/mmbench_dev_20230712.tsv", "en"),
    submission_suffix=".xlsx",
    answer_fields=answer_fields,
)
