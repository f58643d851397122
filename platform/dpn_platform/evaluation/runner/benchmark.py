"""One evaluation on one benchmark: find the files, answer what is not answered yet, score, write the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import Question, read_questions
from dpn_platform.benchmarks.registry import check_variant, find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.answering.loading import Checkpoint, check_dtype, find_checkpoint
from dpn_platform.evaluation.recorded_runs import RESULT
from dpn_platform.evaluation.runner.actor import AnswererSettings
from dpn_platform.evaluation.runner.costs import cost_of
from dpn_platform.evaluation.runner.job import answer_shards
from dpn_platform.evaluation.runner.lines import ShardFiles
from dpn_platform.evaluation.runner.outcome import Evaluated, check_annotations, label_of, write_outcome
from dpn_platform.evaluation.runner.shards import SHARD_QUESTIONS, Shard, cut
from dpn_platform.storage import join_uri, open_uri, write_json

SCHEMA_VERSION = 1
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What to evaluate on what.

    Attributes:
        output_uri: folder of the files; default `evaluation/<benchmark>-<split>-<variant>` beside the checkpoint.
        needs_routing: refuse a checkpoint without routers.
        force: answer again what is answered.
        shard_questions: see `shards.SHARD_QUESTIONS`.
    """

    checkpoint_uri: str
    benchmark: str
    variant: str | None = None
    wanted: Wanted = Wanted()
    output_uri: str | None = None
    dtype: str = "auto"
    needs_routing: bool = False
    force: bool = False
    shard_questions: int = SHARD_QUESTIONS


def evaluate_benchmark(
    request: Request, config: ExperimentConfig, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Answer a benchmark's questions, score the answers, count the cost. Ray must be initialised.

    An interrupted run goes on: shards that are answered are not answered again.

    Args:
        request: what to evaluate.
        config: its `eval` (batch size, actors, limit, seed) and `train` (use_gpu, CPUs and threads of a worker).
        on_progress: called with (questions answered, questions in all).

    Returns:
        The document of result.json.

    Raises:
        DpnError: unknown benchmark or variant, files that are missing or do not fit each other, no checkpoint, or one
            that cannot do what is asked.
    """
    started = time.monotonic()
    plan = _plan(request, config)
    files = ShardFiles(plan.run.output_uri)
    done = set() if request.force else files.done()
    waiting = [shard for shard in plan.shards if shard.name not in done]
    if waiting:
        check_annotations(plan.run, plan.questions)
        _answer(waiting, plan, request, config, on_progress)
    lines, times = files.read(plan.shards)
    outcome = write_outcome(plan.run, lines, plan.questions)
    layout = plan.run.sources.layout
    result = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": plan.run.benchmark.name,
        "label": label_of(plan.run, outcome["scores"]),
        "variant": plan.run.variant,
        "layout": layout.name,
        "split": layout.split,
        "key": plan.key | {"questions": plan.run.sources.questions, "annotations": plan.run.sources.annotations},
        "method": plan.checkpoint.method or "transformers",
        "cost": cost_of(lines, times),
        "shards": {"all": len(plan.shards), "answered_now": len(waiting)},
        "limit": config.eval.limit,
        "num_actors": config.eval.num_actors,
        "provenance": manifest_of_versions(),
        "duration_s": round(time.monotonic() - started, 2),
        "result_uri": f"{plan.run.output_uri}/{RESULT}",
        **outcome,
    }
    write_json(result["result_uri"], result)  # last: its presence says that the rest is there
    return result


@dataclass(frozen=True)
class _Plan:
    """What a request comes to; `key` is what answers depend on beside the questions."""

    run: Evaluated
    checkpoint: Checkpoint
    key: dict[str, Any]
    questions: Sequence[Question]
    shards: Sequence[Shard]


def _plan(request: Request, config: ExperimentConfig) -> _Plan:
    benchmark = find_benchmark(request.benchmark)
    variant = check_variant(benchmark, request.variant)
    check_dtype(request.dtype)
    checkpoint = find_checkpoint(request.checkpoint_uri)
    if request.needs_routing:
        _check_routers(checkpoint)
    sources = find_sources(benchmark, request.wanted)
    output_uri = request.output_uri or _beside(checkpoint, default_output(request))
    questions = read_questions(benchmark, sources, variant, config.eval.limit)
    run = Evaluated(
        benchmark,
        variant,
        sources,
        open_uri(output_uri).uri,
        checkpoint.name,
        config.eval.seed,
        is_whole=config.eval.limit is None,
    )
    key = {
        "checkpoint_uri": checkpoint.uri,
        "checkpoint_fingerprint": checkpoint.fingerprint,
        "variant": variant,
        "dtype": request.dtype,
        "use_gpu": config.train.use_gpu,
    }
    return _Plan(run, checkpoint, key, questions, cut(questions, key, request.shard_questions))


def default_output(request: Request) -> str:
    """Name of the folder of an evaluation: `<benchmark>-<split>-<variant>`.

    Raises:
        DpnError: unknown benchmark, variant, layout or split, or no questions.
    """
    benchmark = find_benchmark(request.benchmark)
    split = find_sources(benchmark, request.wanted).layout.split
    return f"{benchmark.name}-{split}-{check_variant(benchmark, request.variant)}"


def _check_routers(checkpoint: Checkpoint) -> None:
    if checkpoint.method != "dpn":
        what = f"method {checkpoint.method}" if checkpoint.method else "a model of transformers"
        raise DpnError(
            f"{checkpoint.uri}: {what} has no routers; routing statistics need a model trained with method dpn"
        )


def _answer(
    waiting: Sequence[Shard],
    plan: _Plan,
    request: Request,
    config: ExperimentConfig,
    on_progress: OnProgress | None,
) -> None:
    total = len(plan.questions)
    before = total - sum(len(shard.questions) for shard in waiting)
    settings = AnswererSettings(
        checkpoint=plan.checkpoint,
        output_uri=plan.run.output_uri,
        batch_size=config.eval.batch_size,
        dtype=request.dtype,
        num_threads=config.train.threads_per_worker,
        use_gpu=config.train.use_gpu,
    )
    answer_shards(
        waiting,
        settings,
        num_actors=config.eval.num_actors,
        cpus_per_actor=config.train.cpus_per_worker,
        on_progress=None if on_progress is None else lambda count: on_progress(before + count, total),
    )


def _beside(checkpoint: Checkpoint, name: str) -> str:
    return join_uri(checkpoint.uri.rstrip("/").rpartition("/")[0], "evaluation", name)
