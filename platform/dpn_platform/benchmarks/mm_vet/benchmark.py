"""MM-Vet: the mean of a judge's grades, per capability and per combination. Never without a judge.

Source: spec benchmarks 3.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

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
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.files.fields import ANYTHING, SCALAR, TEXT, check_fields, either, list_of, optional
from dpn_platform.benchmarks.files.sources import read_document, read_rows, rows_by_id
from dpn_platform.benchmarks.mm_vet.grades import Grades, is_grades, read_grades
from dpn_platform.benchmarks.prompts import LONG_LIMIT
from dpn_platform.benchmarks.statistics.aggregation import accuracy_headline
from dpn_platform.config.errors import DpnError

TITLE = "MM-Vet"
CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
OFFICIAL_JUDGE = "gpt-4-0613"
_CAPABILITY = either(f"a text or a list of texts ({', '.join(CAPABILITIES)})", TEXT, list_of(TEXT, "a list of texts"))
_PREFIX = "v1_"
_HARNESS_PREFIX = (
    "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n"
)
LIMITS = {REFERENCE: LONG_LIMIT, HARNESS: LONG_LIMIT}


def prompt(record: Row, variant: str) -> Prompt:
    """The bare question; lmms-eval asks for reasoning first."""
    text = record["text"] if "text" in record else record["question"]
    return Prompt(_HARNESS_PREFIX + text if variant == HARNESS else text, LIMITS[variant])


def score(inputs: Inputs) -> Report:
    """Aggregates a grades file: total over runs, per capability, per combination.

    The grades are the predictions; or the annotations, where mm-vet.json is given as the questions.

    Raises:
        DpnError: the file holds answers and no grades, or grades and questions do not fit each other.
    """
    grades_uri, questions_uri = inputs.predictions, inputs.annotations
    document = read_document(grades_uri)
    if not is_grades(document) and inputs.questions is not None:
        grades_uri, questions_uri = inputs.annotations, inputs.questions
        document = read_document(grades_uri)
    if not is_grades(document):
        raise DpnError(
            f"{grades_uri}: MM-Vet has no score without a judge. Write the judge's file with --submission "
            "answers.json, have it graded, and give the grades file ({'v1_0': {'score': [...]}}) as --predictions"
        )
    graded = read_grades(grades_uri, document)
    rows = read_questions(questions_uri)
    as_answers = [Answer(key, key, "") for key in graded.runs]
    joined = Inputs(grades_uri, questions_uri)
    pairs = pair(as_answers, lambda answer: answer.key, rows, lambda row: row["id"], joined, TITLE)
    table = np.array([graded.runs[row["id"]] for _, row in pairs])  # (questions, runs)
    means = table.mean(axis=1).tolist()
    headline = accuracy_headline("gpt4_grade", means, inputs.seed)
    capabilities = [_capabilities(row) for row in rows]
    runs = 100.0 * table.mean(axis=0)
    scores: dict[str, Any] = {
        "total": headline.value,
        "std": float(runs.std()),
        "runs": runs.tolist(),
        "capability": _means((name, mean) for held, mean in zip(capabilities, means, strict=True) for name in held),
    }
    scores["capability_integration"] = _means(
        ("_".join(held), mean) for held, mean in zip(capabilities, means, strict=True)
    )
    scores["protocol"] = _protocol(graded, inputs)
    questions = [
        QuestionScore(row["id"], graded.runs[row["id"]], row.get("answer"), mean)
        for (_, row), mean in zip(pairs, means, strict=True)
    ]
    return Report(len(questions), headline, scores, questions)


def read_questions(uri: str) -> list[Row]:
    """The questions with `id` (v1_<n>), `question`, `answer` and `capability`, from mm-vet.json or the parquet.

    Raises:
        DpnError: the file is not MM-Vet's.
    """
    document = read_document(uri)
    rows = rows_by_id(document)
    if not rows:
        table = read_rows(uri)
        check_fields(table, uri, TITLE, {"question_id": SCALAR})
        rows = [{**row, "id": prefixed(str(row["question_id"]))} for row in table]
    check_fields(rows, uri, TITLE, {"question": ANYTHING, "answer": optional(SCALAR), "capability": _CAPABILITY})
    return rows


def prefixed(key: str) -> str:
    """The id of MM-Vet's own files: v1_<n>."""
    return key if key.startswith(_PREFIX) else _PREFIX + key


def submission(inputs: Inputs, suffix: str) -> bytes:
    """What the judge reads: one dictionary from v1_<question_id> to the answer.

    Raises:
        DpnError: the same question answered twice.
    """
    answers = read_answers(inputs.predictions)
    listed = {prefixed(answer.key): answer.text for answer in answers}
    if len(listed) != len(answers):
        raise DpnError(
            f"{inputs.predictions}: {len(answers)} answers to {len(listed)} questions; each needs one answer"
        )
    return json.dumps(listed, indent=2).encode()


def _capabilities(row: Row) -> tuple[str, ...]:
    """The capabilities of a question in the benchmark's order; the parquet has them in one text."""
    held = row["capability"]
    names = {name.strip() for name in (held.split(",") if isinstance(held, str) else held)}
    return (*[name for name in CAPABILITIES if name in names], *sorted(names - set(CAPABILITIES)))


def _means(members: Iterable[tuple[str, float]]) -> dict[str, dict[str, Any]]:
    """Group -> `{n, score}`, the largest group first."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, mean in members:
        groups[name].append(mean)
    ordered: Sequence[tuple[str, list[float]]] = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: {"n": len(means), "score": 100.0 * sum(means) / len(means)} for name, means in ordered}


def _protocol(graded: Grades, inputs: Inputs) -> dict[str, Any]:
    judges = sorted(graded.judges)
    official = bool(judges) and all(judge == OFFICIAL_JUDGE for judge in judges)
    return {
        "split": "all",
        "parser": BENCHMARK.variants[inputs.variant],
        "judge": ", ".join(judges) or "unknown",
        "comparable": official,
        "comparability": "the published judge"
        if official
        else f"not comparable: the published judge is {OFFICIAL_JUDGE}",
    }


_JUDGE = "graded by a GPT-4 judge, never scored without one"
LAYOUTS = (
    Layout(LLAVA, "all", "mm-vet/llava-mm-vet.jsonl", "mm-vet/images", picture="image", caution=_JUDGE),
    Layout(PARQUET, "test", "data", caution=_JUDGE),
)

BENCHMARK = Benchmark(
    name="mm-vet",
    variants={
        REFERENCE: "mean of the judge's grades; bare questions",
        HARNESS: "mean of the judge's grades; lmms-eval's reasoning prompt: not comparable",
    },
    limits=LIMITS,
    prompt=prompt,
    score=score,
    submission=submission,
    layouts=LAYOUTS,
)
