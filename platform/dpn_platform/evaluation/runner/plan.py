"""Plans an evaluation: which checkpoint, variants and questions, where their files are, and in which shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dpn_model.methods.registry import DENSE, methods_with
from dpn_platform.benchmarks.contract import Benchmark
from dpn_platform.benchmarks.files.question_sources import Sources, Wanted, find_sources
from dpn_platform.benchmarks.files.questions import Question, read_questions
from dpn_platform.benchmarks.registry import check_options, check_variant, find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import HELD_OUT
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.answering.loading import Checkpoint, check_dtype, find_checkpoint
from dpn_platform.evaluation.answering.variants import (
    AS_IT_IS,
    Variant,
    check_variants,
    on_every_route,
    variants_of,
)
from dpn_platform.evaluation.runner.data_set import asked_data_set
from dpn_platform.evaluation.runner.outcome import Evaluated
from dpn_platform.evaluation.runner.shards import SHARD_QUESTIONS, Shard, cut
from dpn_platform.storage import join_uri, open_uri


@dataclass(frozen=True)
class Request:
    """What to evaluate on what.

    Attributes:
        output_uri: folder of the files; default `evaluation/<benchmark>-<split>-<variant>` beside the checkpoint.
        needs_routing: refuse a checkpoint without routers.
        force: answer again what is answered.
        shard_questions: see `shards.SHARD_QUESTIONS`.
        main: what the checkpoint is evaluated as.
        trust_remote_code: of a folder of transformers, run its code where transformers has none.
        options: of the benchmark's scoring, see `Benchmark.options`.
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
    main: Variant = AS_IT_IS
    trust_remote_code: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a request comes to; `key` is what answers depend on beside the questions."""

    run: Evaluated
    checkpoint: Checkpoint
    key: dict[str, Any]
    questions: Sequence[Question]
    shards: Sequence[Shard]
    variants: tuple[Variant, ...]


def plan(request: Request, config: ExperimentConfig) -> Plan:
    """What a request comes to; nothing is answered yet.

    Raises:
        DpnError: unknown benchmark or variant, files that are missing or do not fit each other, no checkpoint, or one
            that cannot do what is asked.
    """
    benchmark = find_benchmark(request.benchmark)
    convention = check_variant(benchmark, request.variant)
    check_dtype(request.dtype)
    checkpoint = find_checkpoint(request.checkpoint_uri)
    variants = variants_of(config.eval, request.main)
    check_variants(variants, checkpoint.config, checkpoint.uri)
    if config.eval.routes == "all":
        variants += on_every_route(checkpoint.routes(), checkpoint.uri)
    if request.needs_routing:
        _require_routes(checkpoint)
    key: dict[str, Any] = {"checkpoint_uri": checkpoint.uri, "checkpoint_fingerprint": checkpoint.fingerprint}
    key |= {"variant": convention, "use_gpu": config.train.use_gpu}
    key["dtype"] = benchmark.dtype if request.dtype == "auto" else request.dtype
    wanted, label, data_set = request.wanted, "", ""
    check_options(benchmark, request.options)
    if request.trust_remote_code:
        key["trust_remote_code"] = True
    if benchmark.asks_data_set:
        asked = asked_data_set(benchmark, wanted, config)
        wanted, data_set = asked.wanted(wanted), asked.manifest.name
        key["data_fingerprint"] = asked.manifest.fingerprint
        # A folder of transformers is run as training runs it, packed and without reductions.
        checkpoint = replace(checkpoint, method=checkpoint.method or DENSE)
    if benchmark.name == HELD_OUT:
        label, key["max_new_tokens"] = data_set, config.eval.max_new_tokens
    sources = find_sources(benchmark, wanted)
    key |= {"split": sources.layout.split, "limit": config.eval.limit}
    if variants != (AS_IT_IS,):
        key["variants"] = [asdict(variant) for variant in variants]
    questions = read_questions(benchmark, sources, convention, config.eval.limit)
    if benchmark.name == HELD_OUT:
        questions = [replace(question, max_new_tokens=config.eval.max_new_tokens) for question in questions]
    folder = output_name(benchmark, sources, convention, data_set)
    output_uri = request.output_uri or join_uri(checkpoint.uri.rstrip("/").rpartition("/")[0], "evaluation", folder)
    run = Evaluated(
        benchmark,
        convention,
        sources,
        open_uri(output_uri).uri,
        checkpoint,
        config.eval.seed,
        is_whole=config.eval.limit is None,
        label=label,
        options=request.options,
    )
    # How many are asked decides no answer: more questions find those that are answered.
    of_answers = {name: value for name, value in key.items() if name != "limit"}
    return Plan(run, checkpoint, key, questions, cut(questions, of_answers, request.shard_questions), variants)


def _require_routes(checkpoint: Checkpoint) -> None:
    if checkpoint.has_routes:
        return
    what = f"method {checkpoint.method}" if checkpoint.method else "a model of transformers"
    able = ", ".join(methods_with("has_routes"))
    raise DpnError(
        f"{checkpoint.uri}: {what} has no routers; routing statistics need a model trained with method {able}"
    )


def output_name(benchmark: Benchmark, sources: Sources, convention: str, data_set: str = "") -> str:
    """Name of an evaluation's folder: `<benchmark>-<split>-<convention>`, of a data set with its name.

    The held-out split's is `<data set>-<split>`.
    """
    split = sources.layout.split
    if benchmark.name == HELD_OUT:
        return f"{data_set}-{split}"
    return "-".join(part for part in (benchmark.name, data_set, split, convention) if part)


def default_output(request: Request, config: ExperimentConfig) -> str:
    """Name of the folder of an evaluation (see `output_name`).

    Raises:
        DpnError: unknown benchmark, variant, layout or split, or no questions.
    """
    benchmark = find_benchmark(request.benchmark)
    convention, wanted, data_set = check_variant(benchmark, request.variant), request.wanted, ""
    if benchmark.asks_data_set:
        asked = asked_data_set(benchmark, wanted, config)
        wanted, data_set = asked.wanted(wanted), asked.manifest.name
    return output_name(benchmark, find_sources(benchmark, wanted), convention, data_set)
