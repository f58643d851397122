"""Scores an answer file by a benchmark's name: the document machines read, and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dpn_platform.benchmarks.contract import Inputs, Report
from dpn_platform.benchmarks.outcomes import encode_table, scored_columns
from dpn_platform.benchmarks.registry import check_options, check_variant, find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import create_bytes, exists, open_uri, read_bytes, with_retries, write_bytes


def score_file(
    benchmark: str,
    predictions: str,
    annotations: str,
    questions: str | None = None,
    variant: str | None = None,
    seed: int = 0,
    split: str = "",
    options: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Report]:
    """Scores one answer file.

    Args:
        benchmark: name, in any spelling `registry.find_benchmark` knows.
        predictions, annotations, questions: paths or URIs of files or folders.
        variant: the convention; default the benchmark's first.
        seed: of the bootstrap.
        split: of annotations that hold several.
        options: of the benchmark's, see `Benchmark.options`.

    Returns:
        The document `{benchmark, variant, n, headline, scores}`, and the report with every question.

    Raises:
        DpnError: unknown benchmark, variant or option, or files that do not fit each other.
    """
    found = find_benchmark(benchmark)
    chosen = check_variant(found, variant)
    check_options(found, options or {})
    _refuse_same_file(predictions, {"annotations": annotations, "questions": questions})
    report = found.score(Inputs(predictions, annotations, questions, chosen, seed, split, options or {}))
    headline = report.headline
    report.scores["protocol"] |= {"max_new_tokens": found.limits[chosen]}
    document = {
        "benchmark": found.name,
        "variant": chosen,
        "n": report.n,
        "headline": {
            "name": headline.name,
            "value": headline.value,
            "ci95": list(headline.ci95),
            "unit": headline.unit,
        },
        "scores": report.scores,
    }
    return document, report


def _refuse_same_file(predictions: str, others: Mapping[str, str | None]) -> None:
    """One file can not be both; the bytes are compared only where the sizes are equal.

    Raises:
        DpnError: the predictions are also given as something else, or a copy of it is.
    """
    size = _size(predictions)
    for role, other in others.items():
        if other is None or not exists(other):
            continue
        if open_uri(other).uri == open_uri(predictions).uri or (
            size is not None and size == _size(other) and read_bytes(other) == read_bytes(predictions)
        ):
            raise DpnError(
                f"{predictions}: is the same file as the {role} ({other}): it holds no answers of a model, "
                "which --predictions needs"
            )


def _size(uri: str) -> int | None:
    """Bytes of a file; None of a folder, or of nothing."""
    location = open_uri(uri)
    info = with_retries("look up", location, lambda: location.filesystem.get_file_info(location.path))
    return int(info.size) if info.is_file else None


def submission_of(benchmark: str, inputs: Inputs, target: str) -> bytes:
    """The file a server or judge is sent, in the form that the target's suffix names.

    Raises:
        DpnError: the benchmark has no server, or the files do not fit each other.
    """
    found = find_benchmark(benchmark)
    if found.submission is None:
        raise DpnError(f"{found.name}: its answers are public, so nothing is submitted; leave out --submission")
    name = target.rpartition("/")[2]
    return found.submission(inputs, f".{name.rpartition('.')[2].lower()}" if "." in name else "")


def question_lines(report: Report) -> bytes:
    """One JSON line per question: `id`, `parsed`, `gold`, `score`."""
    lines = [json.dumps(question.to_json(), ensure_ascii=False) for question in report.questions]
    return ("\n".join(lines) + "\n").encode()


def outcome_table(benchmark: str, report: Report, seed: int = 0) -> bytes:
    """The scored questions as an outcome table, without costs: nobody knows what answers of other programs took."""
    name = find_benchmark(benchmark).name
    common = {"benchmark": name, "variant": "", "seed": seed}
    return encode_table(
        {**common, "place": place, "question_id": str(one.id), **scored_columns(one)}
        for place, one in enumerate(report.questions)
    )


def publish(uri: str, data: bytes, *, force: bool) -> None:
    """Writes a file, never over another one unless told to.

    Raises:
        DpnError: something else is there.
    """
    if force:
        write_bytes(uri, data)
    elif not create_bytes(uri, data) and read_bytes(uri) != data:
        raise DpnError(f"{uri} exists and holds something else; name another file, or add --force to replace it")
