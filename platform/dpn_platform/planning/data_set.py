"""What the data set says of itself, where it can be reached without starting anything: rows, pictures, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from dpn_model.processing import DpnProcessor
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.reading.collate import SampleCollator
from dpn_platform.planning.compute import SampleMeans
from dpn_platform.services import connect, endpoints, external_services
from dpn_platform.storage import open_uri
from dpn_platform.training.base import build_tiny
from dpn_platform.training.base_folder import TINY, find_folder

#: assumed where no data set can be counted: the middle row of spec performance 2.4
ASSUMED_TEXT_TOKENS = 150
#: rows of the first shard that are tokenised
COUNTED_ROWS = 64


@dataclass(frozen=True)
class DataFacts:
    """A data set as planned with; what is None could not be looked at, and `missing` says why."""

    uri: str
    rows: int | None = None
    eval_rows: int | None = None
    images: int | None = None
    missing: str | None = None


def look_at(config: ExperimentConfig) -> tuple[DataFacts, Manifest | None]:
    """The data set's size, and its manifest.

    Raises:
        DpnError: it lacks the split that is trained on, or, for a sweep, the one that is evaluated on.
    """
    uri = config.data.uri

    if uri.startswith("s3://") and "s3" not in external_services():
        if endpoints(needs=["s3"]) is None:
            return DataFacts(uri, missing="not looked at: the services are not running (`dpn up`)"), None
        connect(needs=["s3"])

    try:
        manifest = load_manifest(uri)
    except DpnError as error:
        return DataFacts(uri, missing=str(error)), None
    train = manifest.split(config.data.train_split)
    wants_eval = config.sweep is not None or config.data.eval_split in manifest.splits
    eval_rows = manifest.split(config.data.eval_split).rows if wants_eval else None
    return DataFacts(uri, train.rows, eval_rows, train.images), manifest


def sample_means(
    config: ExperimentConfig, facts: DataFacts, manifest: Manifest | None, text_tokens: int | None
) -> tuple[SampleMeans, str]:
    """The average sample, and where its figures are from: the user, the data set's first rows, or an assumption.

    All text counts as supervised where it was not counted, which is the most it can be.
    """
    images = 1.0 if facts.images is None else facts.images / max(facts.rows or 0, 1)
    if text_tokens is not None:
        return SampleMeans(text_tokens, text_tokens, images), "given (--text-tokens)"
    counted = None if manifest is None else _count(config, manifest)
    if counted is not None:
        return SampleMeans(*counted, images), f"mean of {COUNTED_ROWS} rows of the data set's first shard"
    return SampleMeans(ASSUMED_TEXT_TOKENS, ASSUMED_TEXT_TOKENS, images), "assumed; set it with --text-tokens"


def _count(config: ExperimentConfig, manifest: Manifest) -> tuple[float, float] | None:
    """Text and supervised tokens per row as training encodes them; None without a tokenizer or shards at hand."""
    processor = _processor(config.model.base)
    shards = manifest.split(config.data.train_split).shards
    if processor is None or not shards:
        return None
    place = open_uri(manifest.shard_uri(shards[0]))
    with place.filesystem.open_input_file(place.path) as file:
        rows = pq.ParquetFile(file).read_row_group(0).slice(0, COUNTED_ROWS)
    rows = rows.append_column("sample_key", rows.column("row_id"))
    batch = SampleCollator(processor, router=config.method.spec.needs_router_token)(rows)
    tokens = int(batch["attention_mask"].sum()) - int((batch["input_ids"] == processor.image_token_id).sum())
    return tokens / len(rows), int((batch["labels"] >= 0).sum()) / len(rows)


def _processor(base: str) -> Any:

    if base == TINY:
        return build_tiny()[1]
    try:
        return None if "://" in base else DpnProcessor.from_pretrained(find_folder(base))
    except (FileNotFoundError, ValueError):  # planned with assumed tokens; a run says what is missing
        return None
