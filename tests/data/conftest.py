"""A slice of five source rows (three good, two bad) on disk, and a way to publish it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_platform.data.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.schema import SCHEMA_VERSION
from dpn_platform.data.shards import BuildOptions, Slice, SourceRow, build_shard
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
