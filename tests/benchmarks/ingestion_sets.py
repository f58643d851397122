"""The data sets of `ingestion.py`: the same pictures as files, as tars and as published shards."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split
from dpn_platform.data.published.schema import SCHEMA_VERSION, shard_bytes, shard_table

ROWS_PER_SHARD = 250


def small_picture() -> bytes:
    """Next to nothing to decode: what remains is the cost of the stream."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def photograph(number: int) -> bytes:
    """A 640 x 480 JPEG of about 125 KB: smooth shapes and some grain, as photographs have."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), Image.BICUBIC)
    pixels = np.asarray(coarse, np.int16) + draw.normal(0, 14, (480, 640, 1)).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_sets(folder: Path, num_rows: int, pictures: list[bytes]) -> Manifest:
    """The same pictures, repeated, as files, as tars and as shards."""
    for name in ("files", "tars", "shards"):
        (folder / name).mkdir()
    shards = []
    for first in range(0, num_rows, ROWS_PER_SHARD):
        content = {n: pictures[n % len(pictures)] for n in range(first, min(first + ROWS_PER_SHARD, num_rows))}
        with tarfile.open(folder / f"tars/{first:06d}.tar", "w") as tar:
            for number, data in content.items():
                (folder / "files" / f"{number:06d}.jpg").write_bytes(data)
                entry = tarfile.TarInfo(f"{number:06d}.jpg")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        path = f"shards/{first:06d}.parquet"
        (folder / path).write_bytes(shard_bytes(shard_table([_row(*item) for item in content.items()])))
        shards.append(Shard(path=path, rows=len(content), first_row_id=first, bytes=1, sha256="", content_sha256=path))
    split = Split(rows=num_rows, images=num_rows, text_only=0, sources={"x": num_rows}, shards=tuple(shards))
    return Manifest(
        schema_version=SCHEMA_VERSION, name="b", source="", splits={"train": split}, quarantine=Quarantine(),
        fingerprint="",
    ).at(str(folder))  # fmt: skip


def _row(number: int, image: bytes) -> dict[str, Any]:
    return {
        "row_id": number, "source_row": number, "id": str(number), "split": "train", "source": "x", "difficulty": None,
        "conversations": "[]", "num_turns": 1, "text_length": 100, "prompt_tokens": 50, "answer_tokens": 10,
        "expected_cost": 636, "repairs": None, "has_image": True, "width": 640, "height": 480, "image": image,
    }  # fmt: skip
