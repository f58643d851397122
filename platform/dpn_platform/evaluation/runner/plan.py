"""Plans an evaluation: which checkpoint, variants and questions, where their files are, and in which shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dpn_model.methods.registry import DENSE, methods_with
from dpn_platform.benchmarks.contract import Benchmark
from dpn_platform.benchmarks.files.question_sources import Sources, Wanted, find_sources
from dpn_platform.benchmarks.files.questions import Question, read_questions
from dpn_platform.benchmarks.registry import check_variant, find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import HELD_OUT
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import VERSIONS_FOLDER, load_manifest
from dpn_platform.data.published.presence import require_shards
from dpn_platform.evaluation.answering.loading import Checkpoint, check_dtype, find_checkpoint
from dpn_platform.evaluation.answering.variants import (
    AS_IT_IS,
    Variant,
    check_variants,
    on_every_route,
    variants_of,
)
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
    if request.needs_routing and not checkpoint.has_routes:
        what = f"method {checkpoint.method}" if checkpoint.method else "a model of transformers"
        able = ", ".join(methods_with("has_routes"))
        raise DpnError(
            f"{checkpoint.uri}: {what} has no routers; routing statistics need a model trained with method {able}"
        )
    key: dict[str, Any] = {"checkpoint_uri": checkpoint.uri, "checkpoint_fingerprint": checkpoint.fingerprint}
    key |= {"variant": convention, "use_gpu": config.train.use_gpu}
    key["dtype"] = benchmark.dtype if request.dtype == "auto" else request.dtype
    wanted, label = request.wanted, ""
    if request.trust_remote_code:
        key["trust_remote_code"] = True
    if benchmark.name == HELD_OUT:
        wanted, label, more = _held_out(config)
        key |= more
        # A folder of transformers is run as training runs it, packed and without reductions.
        checkpoint = replace(checkpoint, method=checkpoint.method or DENSE)
    sources = find_sources(benchmark, wanted)
    key |= {"split": sources.layout.split, "limit": config.eval.limit}
    if variants != (AS_IT_IS,):
        key["variants"] = [asdict(variant) for variant in variants]
    questions = read_questions(benchmark, sources, convention, config.eval.limit)
    if benchmark.name == HELD_OUT:
        questions = [replace(question, max_new_tokens=config.eval.max_new_tokens) for question in questions]
    output_uri = request.output_uri or join_uri(
        checkpoint.uri.rstrip("/").rpartition("/")[0], "evaluation", output_name(benchmark, sources, convention, label)
    )
    run = Evaluated(
        benchmark,
        convention,
        sources,
        open_uri(output_uri).uri,
        checkpoint,
        config.eval.seed,
        is_whole=config.eval.limit is None,
        label=label,
    )
    # How many are asked decides no answer: more questions find those that are answered.
    of_answers = {name: value for name, value in key.items() if name != "limit"}
    return Plan(run, checkpoint, key, questions, cut(questions, of_answers, request.shard_questions), variants)


def _held_out(config: ExperimentConfig) -> tuple[Wanted, str, dict[str, Any]]:
    """Where the held-out split of `data` is, the data set's name, and what the answers depend on.

    Raises:
        DpnError: no such data set or split, shards of it are missing, or it is empty.
    """
    manifest, split = load_manifest(config.data.uri), config.data.eval_split
    if manifest.split(split).rows == 0:
        raise DpnError(f"{config.data.uri}: the split '{split}' is empty")
    require_shards(manifest, split)
    version = f"{manifest.root}/{VERSIONS_FOLDER}/{manifest.fingerprint}.json"
    key = {"data_fingerprint": manifest.fingerprint, "max_new_tokens": config.eval.max_new_tokens}
    return Wanted(questions=version, split=split), manifest.name, key


def output_name(benchmark: Benchmark, sources: Sources, convention: str, label: str = "") -> str:
    """Name of an evaluation's folder: `<benchmark>-<split>-<convention>`, or `<data set>-<split>`."""
    split = sources.layout.split
    return f"{label}-{split}" if label else f"{benchmark.name}-{split}-{convention}"


def default_output(request: Request) -> str:
    """Name of the folder of an evaluation on a benchmark of the field (see `output_name`).

    Raises:
        DpnError: unknown benchmark, variant, layout or split, or no questions.
    """
    benchmark = find_benchmark(request.benchmark)
    return output_name(benchmark, find_sources(benchmark, request.wanted), check_variant(benchmark, request.variant))
