"""One evaluation: a Ray Data job over the held-out split, its predictions and its result beside the checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import ActorPoolStrategy

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.presence import require_shards
from dpn_platform.data.reading.ray_context import quiet_data_context
from dpn_platform.data.reading.stream import split_dataset
from dpn_platform.evaluation import scoring
from dpn_platform.evaluation.examples import choose_examples, with_pictures
from dpn_platform.evaluation.predictor_actor import PredictorActor, PredictorSettings
from dpn_platform.evaluation.recorded_runs import PREDICTIONS, RESULT
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.storage import MissingObjectError, list_files, open_uri, read_json, write_bytes, write_json

#: a worker takes this many forward passes' rows at once, so that it can group them by length
BATCHES_PER_CALL = 4

OnProgress = Callable[[int, int], None]


def evaluate(
    checkpoint_uri: str,
    config: ExperimentConfig,
    *,
    output_uri: str | None = None,
    force: bool = False,
    in_this_process: bool = False,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Answer the held-out questions and score the answers. Ray must be initialised.

    Of a conversation with several turns the first question is asked. A complete result of the same evaluation at
    `output_uri` is returned as it is.

    Args:
        checkpoint_uri: from_pretrained folder (path or URI).
        config: its `data` (which split), `eval`, `train.use_gpu` and `train.threads_per_worker` are used.
        output_uri: folder for predictions and result; default `evaluation/<data set>-<split>` beside the checkpoint.
        force: evaluate again in any case.
        in_this_process: with one actor to answer, answer here instead, where the model's imports are done already.
        on_progress: called with (samples done, samples in all).

    Raises:
        DpnError: no such checkpoint, data set or split, or an empty split.
    """
    checkpoint_uri = open_uri(checkpoint_uri).uri
    manifest = load_manifest(config.data.uri)
    output_uri = output_uri or default_output(checkpoint_uri, manifest, config)
    _require_checkpoint(checkpoint_uri)
    key = evaluation_key(checkpoint_uri, config, manifest)
    found = None if force else read_result(output_uri, key)
    if found is not None:
        return found
    started = time.monotonic()
    alone = in_this_process and config.eval.num_actors == 1
    predictions = _predict(checkpoint_uri, config, manifest, alone, on_progress)
    result = _summarise(predictions, key, config, manifest, open_uri(output_uri).uri, time.monotonic() - started)
    write_bytes(result.outcomes_uri, _parquet(predictions))
    write_json(result.result_uri, result.to_json())  # last: its presence says that the rest is there
    return result


def _require_checkpoint(uri: str) -> None:
    """Said here in one line: what a worker's constructor raises arrives wrapped several times."""
    if "config.json" not in {file.rpartition("/")[2] for file in list_files(uri, recursive=False)}:
        raise DpnError(f"{uri}: no checkpoint there (no config.json); give a from_pretrained folder")


def default_output(checkpoint_uri: str, manifest: Manifest, config: ExperimentConfig) -> str:
    """`evaluation/<data set>-<split>` beside the checkpoint's folder."""
    return f"{checkpoint_uri.rstrip('/').rpartition('/')[0]}/evaluation/{manifest.name}-{config.data.eval_split}"


def evaluation_key(checkpoint_uri: str, config: ExperimentConfig, manifest: Manifest) -> dict[str, Any]:
    """What decides the outcome of an evaluation."""
    return {
        "checkpoint_uri": checkpoint_uri,
        "data_fingerprint": manifest.fingerprint,
        "split": config.data.eval_split,
        "limit": config.eval.limit,
        "max_new_tokens": config.eval.max_new_tokens,
    }


def read_result(output_uri: str, key: dict[str, Any] | None = None) -> EvaluationResult | None:
    """The complete result in a folder; None when there is none, or (with `key`) one of another evaluation."""
    try:
        document = read_json(f"{output_uri}/{RESULT}")
    except MissingObjectError:
        return None
    if key is not None and document.get("key") != key:
        return None
    return EvaluationResult.from_json(document, f"{output_uri}/{RESULT}")


def _predict(
    checkpoint_uri: str, config: ExperimentConfig, manifest: Manifest, alone: bool, on_progress: OnProgress | None
) -> pa.Table:
    rows = manifest.split(config.data.eval_split).rows
    total = min(rows, config.eval.limit or rows)
    if total == 0:
        raise DpnError(f"{config.data.uri}: the split '{config.data.eval_split}' is empty")
    require_shards(manifest, config.data.eval_split)
    settings = PredictorSettings(
        checkpoint_uri=checkpoint_uri,
        batch_size=config.eval.batch_size,
        max_new_tokens=config.eval.max_new_tokens,
        num_threads=config.train.threads_per_worker,
        use_gpu=config.train.use_gpu,
    )
    tables: list[pa.Table] = []
    for table in _answers(settings, config, manifest, alone):
        tables.append(table)
        if on_progress:
            on_progress(sum(part.num_rows for part in tables), total)
    predictions = pa.concat_tables(tables)
    if predictions.num_rows != total:
        raise RuntimeError(f"{predictions.num_rows} predictions for {total} samples")
    return predictions.sort_by("row_id")


def _answers(
    settings: PredictorSettings, config: ExperimentConfig, manifest: Manifest, alone: bool
) -> Iterator[pa.Table]:
    rows_per_call = config.eval.batch_size * BATCHES_PER_CALL
    with quiet_data_context(preserve_order=True):
        rows = split_dataset(
            manifest, config.data.eval_split, limit=config.eval.limit, num_readers=2 * config.eval.num_actors
        )
        if alone:
            predict = PredictorActor(settings)
            yield from map(predict, rows.iter_batches(batch_size=rows_per_call, batch_format="pyarrow"))
            return
        answers = rows.map_batches(
            PredictorActor,
            fn_constructor_args=(settings,),
            batch_size=rows_per_call,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=config.eval.num_actors),
            num_cpus=config.train.cpus_per_worker,
            num_gpus=1 if config.train.use_gpu else 0,
        )
    yield from answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _summarise(
    predictions: pa.Table,
    key: dict[str, Any],
    config: ExperimentConfig,
    manifest: Manifest,
    output_uri: str,
    duration_s: float,
) -> EvaluationResult:
    rows = predictions.to_pylist()
    overall = scoring.score(rows)
    return EvaluationResult(
        key=key,
        benchmark=manifest.name,
        n=overall.n,
        accuracy=overall.accuracy,
        accuracy_ci=overall.ci,
        per_family=scoring.score_families(rows),
        flops_ratio={name: scoring.flops_ratio(rows, name) for name in ("eq8", "swiglu")},
        visual_tokens_mean=scoring.visual_tokens_mean(rows),
        routes=scoring.count_routes(rows),
        outcomes_uri=f"{output_uri}/{PREDICTIONS}",
        result_uri=f"{output_uri}/{RESULT}",
        duration_s=round(duration_s, 2),
        examples=with_pictures(choose_examples(rows), manifest, manifest.split(config.data.eval_split)),
    )


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
