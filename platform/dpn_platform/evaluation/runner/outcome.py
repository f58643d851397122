"""From answers to files: LLaVA's answer file of every variant, the server's file, the outcome table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.benchmarks.contract import PUBLISHED, REFERENCE, Benchmark, Inputs, QuestionScore
from dpn_platform.benchmarks.files.question_sources import Sources
from dpn_platform.benchmarks.files.questions import Question
from dpn_platform.benchmarks.files.sources import is_folder
from dpn_platform.benchmarks.outcomes import OUTCOMES, encode_table, scored_columns
from dpn_platform.benchmarks.scoring import score_file
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.loading import Checkpoint
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant
from dpn_platform.evaluation.examples import choose_examples
from dpn_platform.evaluation.recorded_runs import gallery_entry
from dpn_platform.evaluation.runner.lines import Line, encoded
from dpn_platform.evaluation.runner.pictures import fetch
from dpn_platform.storage import write_bytes

ANSWERS = "answers.jsonl"
_MOST_EXAMPLES = 12


@dataclass(frozen=True)
class Evaluated:
    """One benchmark, answered.

    Attributes:
        label: what it is called in metrics where that is not the benchmark's name: the data set's.
        is_whole: every question of the split was asked.
        options: of the benchmark's scoring.
    """

    benchmark: Benchmark
    variant: str
    sources: Sources
    output_uri: str
    checkpoint: Checkpoint
    seed: int
    is_whole: bool = True
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def check_annotations(run: Evaluated, questions: Sequence[Question]) -> None:
    """Scores stand-ins for the answers, so that annotations of another split are refused before the first one is given.

    Raises:
        DpnError: annotations and questions do not fit each other.
    """
    if not _is_scored(run) or run.sources.layout.name == PUBLISHED:  # questions and gold are one file
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


def write_outcome(
    run: Evaluated,
    lines: Sequence[Line],
    questions: Sequence[Question],
    variants: Sequence[Variant] = (AS_IT_IS,),
    times: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Writes answer files and the outcome table, and returns what there is to say of score and files.

    Beside what ends up in result.json: `rows`, variant name -> rows of the table, and `reports`, variant name ->
    document of its scores.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    reports: dict[str, dict[str, Any]] = {}
    found: dict[str, Any] = {"caution": run.sources.layout.caution or None, "notes": []}
    for variant in variants:
        answers_uri = f"{run.output_uri}/answers{f'-{variant.name}' if variant.name else ''}.jsonl"
        of_variant = [line for line in lines if line["metadata"].get("variant", "") == variant.name]
        write_bytes(answers_uri, encoded(of_variant))
        found.setdefault("answers_uri", answers_uri)
        scored: Sequence[QuestionScore] = ()
        if _is_scored(run):
            reports[variant.name], report = _score(run, answers_uri)
            scored, found["notes"] = report.questions, [*found["notes"], *report.notes]
        elif not variant.name:
            found |= _unscored(run, answers_uri, questions)
        latencies = [one["latency_ms"] for one in times if one["variant"] == variant.name]
        rows[variant.name] = _rows(
            run, variant, of_variant, scored, {k: v for one in latencies for k, v in one.items()}
        )
    outcomes_uri = f"{run.output_uri}/{OUTCOMES}"
    write_bytes(outcomes_uri, encode_table(row for of_variant in rows.values() for row in of_variant))
    examples = _examples(rows[AS_IT_IS.name], questions)
    return found | {"outcomes_uri": outcomes_uri, "examples": examples, "rows": rows, "reports": reports}


def label_of(run: Evaluated, scores: Mapping[str, Any] | None) -> str:
    """What the score is called in metrics: a proxy split and another variant than the reference show in it."""
    if run.label:
        return run.label
    is_proxy = scores is not None and "proxy" in str(scores.get("protocol", {}).get("split", ""))
    variant = "" if run.variant == REFERENCE else f"-{run.variant}"
    return f"{run.benchmark.name}{'-val' if is_proxy else ''}{variant}"


def _is_scored(run: Evaluated) -> bool:
    return run.sources.annotations is not None and (run.is_whole or run.benchmark.scores_parts)


def _score(run: Evaluated, predictions: str) -> tuple[dict[str, Any], Any]:
    assert run.sources.annotations is not None
    own_questions = None if run.sources.annotations == run.sources.questions else run.sources.questions
    return score_file(
        run.benchmark.name,
        predictions,
        run.sources.annotations,
        own_questions,
        run.variant,
        seed=run.seed,
        split=run.sources.layout.split,
        options=run.options,
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


def _rows(
    run: Evaluated,
    variant: Variant,
    lines: Sequence[Line],
    scored: Sequence[QuestionScore],
    latencies: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Rows of the outcome table. A question that was not run took no route, so it counts as one without picture."""
    by_id: dict[str, list[QuestionScore]] = {}
    for question in scored:
        by_id.setdefault(str(question.id), []).append(question)
    attached = variant.method or run.checkpoint.settings
    of_run = {
        "benchmark": run.benchmark.name,
        "checkpoint": run.checkpoint.fingerprint,
        "method": str(attached.get("name", run.checkpoint.method or "transformers")),
        "settings": json.dumps(attached, sort_keys=True),
        "budget": variant.budget,
        "seed": run.seed,
    }
    rows = []
    for line in lines:
        took = line["metadata"]
        ran = "new_tokens" in took
        graded = by_id.get(str(line["question_id"]), [])
        if len({one.prompt for one in graded}) > 1:  # MME's two questions of an image share an id
            graded = [one for one in graded if one.prompt == line["prompt"]]
        one = graded.pop(0) if graded else None
        row = {
            **took,
            **of_run,
            "question_id": str(line["question_id"]),
            "has_image": ran and took["image_sha"] is not None,
            "question": line["prompt"],
            "answer": line["text"],
            "route": took.get("route", ""),
            "text_tokens": took["prompt_tokens"] - took["visual_tokens"][0] if ran else None,
            "latency_ms": latencies.get(str(took["place"])),
            **({"score": None, "gold": None} if one is None else scored_columns(one)),
        }
        if run.sources.layout.name == PUBLISHED:
            row["unit"] = took["image_sha"]
        rows.append(row)
    return rows


def _examples(rows: Sequence[dict[str, Any]], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Some samples for galleries, with their pictures; of a data set's families, those without pictures too."""
    shown = {question.place: question.pictures[0] for question in questions if question.pictures}
    chosen = choose_examples(rows)
    if len({row["family"] for row in rows}) == 1 or len(chosen) > _MOST_EXAMPLES * 2:
        chosen = [row for row in chosen if row["has_image"]][:_MOST_EXAMPLES]
    pictures = fetch([shown[row["place"]] for row in chosen if row["has_image"]])
    boxes = {question.place: question.boxes for question in questions}
    return [
        gallery_entry(row, pictures[shown[row["place"]]] if row["has_image"] else None, boxes[row["place"]])
        for row in chosen
    ]
