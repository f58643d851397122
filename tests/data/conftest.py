"""A slice of five source rows (three good, two bad) on disk, and a way to publish it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.published.row_index import RowIndex
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import write_bytes


def _record(number: int, image: str | None = None) -> dict[str, Any]:
    """A sound record."""
    lead = "<image>\n" if image else ""
    turns = [{"from": "human", "value": f"{lead}question {number}?"}, {"from": "gpt", "value": "yes"}]
    return {"id": f"r{number}", "conversations": turns} | ({"image": image} if image else {})


@pytest.fixture
def part(tmp_path: Path) -> Slice:
    """Five source rows of which the second and the fourth are bad."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12)).save(buffer, "JPEG")
    write_bytes(tmp_path / "raw/img/x.jpg", buffer.getvalue())
    (tmp_path / "raw/img/folder").mkdir()
    records = [_record(0, "img/x.jpg"), _record(1, "img/gone.jpg"), _record(2), _record(3, "img/folder"), _record(4)]
    rows = tuple(SourceRow(position + 40, json.dumps(item).encode()) for position, item in enumerate(records))
    options = BuildOptions((str(tmp_path / "raw"),))
    return Slice(str(tmp_path / "out"), "train", index=4, first_row_id=40, rows=rows, options=options)


@pytest.fixture
def publish() -> Callable[..., Manifest]:
    """Builds and publishes a slice as a data set of its own."""
    return _publish


def _publish(part: Slice, *, force: bool = False) -> Manifest:
    built = build_shard(part)
    shard = Shard(**built["shard"])
    sums = {name: total for name, total in built["counts"].items() if name != "has_image"}
    sources = dict(sorted(built["sources"].items()))
    split = Split(rows=3, images=1, text_only=2, sources=sources, shards=(shard,), **sums)
    splits = {"train": split}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        source="memory",
        splits=splits,
        quarantine=Quarantine(),
        fingerprint=fingerprint_of(splits),
    )
    return publish_manifest(part.target_uri, manifest, force=force)


@pytest.fixture(scope="session")
def planned_set() -> Callable[..., tuple[Split, RowIndex]]:
    """A split with the mixture's shape (pictures and texts, skewed lengths) and its index, without files."""
    return _planned_set


def _planned_set(num_rows: int, *, rows_per_shard: int = 100, text_every: int = 16) -> tuple[Split, RowIndex]:
    sizes = [min(rows_per_shard, num_rows - first) for first in range(0, num_rows, rows_per_shard)]
    shards = tuple(
        Shard(
            path=f"s{number}",
            rows=rows,
            first_row_id=number * rows_per_shard,
            bytes=1,
            sha256=f"{number}",
            content_sha256=f"c{number}",
        )
        for number, rows in enumerate(sizes)
    )
    has_image = np.arange(num_rows) % text_every != 0
    source = np.where(has_image, np.arange(num_rows) % 3, 3).astype(np.int16)
    names = ("coco", "gqa", "ocr", "text")
    counts = dict(zip(names, np.bincount(source, minlength=4).tolist(), strict=True))
    images = int(has_image.sum())
    split = Split(rows=num_rows, images=images, text_only=num_rows - images, sources=counts, shards=shards)
    text = np.random.default_rng(0).lognormal(4.5, 0.8, num_rows).clip(10, 1400).astype(np.int32)
    tokens = (text + 576 * has_image).astype(np.int32)
    return split, RowIndex(has_image, tokens, source, names)
