"""From answers to files: LLaVA's answer file, scores or the server's file, predictions with routes, result.json."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpn_platform.benchmarks.contract import REFERENCE, Benchmark, Inputs, QuestionScore
from dpn_platform.benchmarks.files.question_sources import Sources
from dpn_platform.benchmarks.files.questions import Question
from dpn_platform.benchmarks.files.sources import is_folder
from dpn_platform.benchmarks.scoring import question_lines, score_file
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.examples import choose_examples
from dpn_platform.evaluation.predictor import PREDICTION_SCHEMA
from dpn_platform.evaluation.recorded_runs import PREDICTIONS, gallery_entry
from dpn_platform.evaluation.runner.lines import Line, encoded
from dpn_platform.evaluation.runner.pictures import fetch
from dpn_platform.storage import write_bytes

ANSWERS = "answers.jsonl"
_SCHEMA = pa.schema(
    [*PREDICTION_SCHEMA, ("prompt_tokens", pa.int32()), ("new_tokens", pa.int32()), ("kv_bytes", pa.int64())]
)
_MOST_EXAMPLES = 12


@dataclass(frozen=True)
class Evaluated:
    """One benchmark, answered.

    Attributes:
        name: of the checkpoint, for people.
        is_whole: every question of the split was asked.
    """

    benchmark: Benchmark
    variant: str
    sources: Sources
    output_uri: str
    name: str
    seed: int
    is_whole: bool = True


def check_annotations(run: Evaluated, questions: Sequence[Question]) -> None:
    """Scores stand-ins for the answers, so that annotations of another split are refused before the first one is given.

    Raises:
        DpnError: annotations and questions do not fit each other.
    """
    if not _is_scored(run):
        return
    lines = [
        {"question_id": question.id, "prompt": question.stored_prompt, "text": "A", **question.fields}
        for question in questions
    ]
    with tempfile.TemporaryDirectory() as folder:
        stand_in = f"{folder}/{ANSWERS}"
        write_bytes(stand_in, encoded(lines))
        try:
            _score(run, stand_in)
        except DpnError as error:
            raise DpnError(str(error).replace(stand_in, run.sources.questions)) from None


def write_outcome(run: Evaluated, lines: Sequence[Line], questions: Sequence[Question]) -> dict[str, Any]:
    """Writes all but result.json; returns what that says of score and files."""
    answers_uri = f"{run.output_uri}/{ANSWERS}"
    write_bytes(answers_uri, encoded(lines))
    found: dict[str, Any] = {"answers_uri": answers_uri, "headline": None, "scores": None, "caution": None}
    scored: Sequence[QuestionScore] = ()
    if _is_scored(run):
        document, report = _score(run, answers_uri)
        scored = report.questions
        each = f"{run.output_uri}/{run.name}_{run.benchmark.name}.jsonl"
        write_bytes(each, question_lines(report))
        found |= {name: document[name] for name in ("n", "headline", "scores")} | {"per_question_uri": each}
        found |= {"caution": run.sources.layout.caution or None, "notes": list(report.notes)}
    else:
        found |= _unscored(run, answers_uri, questions)
    rows = _rows(lines, scored)
    predictions_uri = f"{run.output_uri}/{PREDICTIONS}"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink, compression="zstd")
    write_bytes(predictions_uri, bytes(sink.getvalue()))
    return found | {"predictions_uri": predictions_uri, "examples": _examples(rows, questions)}


def label_of(run: Evaluated, scores: Mapping[str, Any] | None) -> str:
    """What the score is called in metrics: a proxy split and another variant than the reference show in it."""
    is_proxy = scores is not None and "proxy" in str(scores.get("protocol", {}).get("split", ""))
    variant = "" if run.variant == REFERENCE else f"-{run.variant}"
    return f"{run.benchmark.name}{'-val' if is_proxy else ''}{variant}"


def _is_scored(run: Evaluated) -> bool:
    return run.sources.annotations is not None and run.is_whole


def _score(run: Evaluated, predictions: str) -> tuple[dict[str, Any], Any]:
    assert run.sources.annotations is not None
    own_questions = None if run.sources.annotations == run.sources.questions else run.sources.questions
    return score_file(
        run.benchmark.name, predictions, run.sources.annotations, own_questions, run.variant, seed=run.seed
    )


def _unscored(run: Evaluated, answers_uri: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Without gold, or without all questions; the server's file where there is a server and nothing is left out."""
    count = len(questions)
    if not run.is_whole:
        return {"n": count, "caution": f"not scored: eval.limit left {count} questions, and no score is of a part"}
    caution = run.sources.layout.caution or "not scored: no annotations"
    if run.benchmark.submission is None:
        return {"n": count, "caution": caution}
    asked = run.sources.all_questions
    if is_folder(asked):  # of several files, which may be of other splits too
        asked = f"{run.output_uri}/asked.jsonl"
        write_bytes(asked, encoded([{"question_id": question.id} for question in questions]))
    target = f"{run.output_uri}/submission{run.benchmark.submission_suffix}"
    inputs = Inputs(answers_uri, run.sources.questions, asked, run.variant)
    write_bytes(target, run.benchmark.submission(inputs, run.benchmark.submission_suffix))
    return {"n": count, "caution": caution, "submission_uri": target}


def _rows(lines: Sequence[Line], scored: Sequence[QuestionScore]) -> list[dict[str, Any]]:
    """Rows of predictions.parquet. A question that was not run took no route, so it counts as one without picture."""
    by_id: dict[str, list[QuestionScore]] = {}
    for question in scored:
        by_id.setdefault(str(question.id), []).append(question)
    rows = []
    for line in lines:
        took = line["metadata"]
        ran = "new_tokens" in took
        # Where an id stands for several questions nothing here says which is which.
        graded = by_id.get(str(line["question_id"]), ())
        one = graded[0] if len(graded) == 1 else None
        rows.append(
            {
                **took,
                "row_id": took["place"],
                "id": str(line["question_id"]),
                "has_image": ran and took["visual_tokens"][0] > 0,
                "question": line["prompt"],
                "gold": None if one is None else one.gold if isinstance(one.gold, str) else json.dumps(one.gold),
                "answer": line["text"],
                "correct": None if one is None else one.score >= 0.5,
                "route": took.get("route", ""),
                "text_tokens": took["prompt_tokens"] - took["visual_tokens"][0] if ran else None,
            }
        )
    return rows


def _examples(rows: Sequence[dict[str, Any]], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Some samples with their pictures, for galleries."""
    chosen = [row for row in choose_examples(rows) if row["has_image"]][:_MOST_EXAMPLES]
    shown = {question.place: question.pictures[0] for question in questions if question.pictures}
    pictures = fetch([shown[row["row_id"]] for row in chosen])
    return [gallery_entry(row, pictures[shown[row["row_id"]]]) for row in chosen]
