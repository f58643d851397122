"""Small detection data sets, and what becomes of them: records by split, and what ingest makes of these."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_platform.data.convert.options import ConvertOptions
from dpn_platform.data.convert.run import convert
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, check_rows
from dpn_platform.data.ingest.sources import folder_source, iter_records

Records = dict[str, list[dict[str, Any]]]


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Records]]:
    """Converts a source: (summary, records by split)."""

    def run(
        kind: str, source: Path, *, to: str = "raw", force: bool = False, **options: Any
    ) -> tuple[dict[str, Any], Records]:
        dest = str(tmp_path / to)
        summary = convert(kind, str(source), dest, ConvertOptions(**options), lambda *_: None, force=force)
        annotations = folder_source(dest).annotations
        return summary, {split: [json.loads(raw) for raw in iter_records(uri)] for split, uri in annotations}

    return run


@pytest.fixture
def refused_by_ingest(tmp_path: Path) -> Callable[..., list[str]]:
    """What ingest refuses of records, with its reason."""

    def run(records: list[dict[str, Any]], images: Path) -> list[str]:
        rows = [SourceRow(number, json.dumps(record).encode()) for number, record in enumerate(records)]
        part = Slice(str(tmp_path / "out"), "train", 0, 0, tuple(rows), BuildOptions((str(images),)))
        outcomes = [row for row, _ in check_rows(part, part.rows)]
        assert all(row["objects"] for row in outcomes if "reason" not in row)
        return [f"{row['reason']}: {row['detail']}" for row in outcomes if "reason" in row]

    return run


def jpeg(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def instances(**changes: Any) -> dict[str, Any]:
    """COCO's tables: a picture of two cats and a dog, one of a crowd of people and a dog, one of nothing."""
    tables = {
        "info": {"year": 2017},
        "annotations": [
            annotation(11, 1, 3, [10, 20, 30, 40]),
            annotation(12, 2, 7, [0, 0, 200, 100], iscrowd=1),
            annotation(13, 1, 5, [60.25, 5.5, 20.1, 10.2]),
            annotation(14, 1, 3, [90, 70, 30, 30]),
            annotation(15, 2, 5, [150, 50, 10, 10]),
            annotation(16, 1, 5, [100, 10, 5, 5]),
            annotation(17, 9, 5, [1, 1, 5, 5]),
        ],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 2, "file_name": "b.jpg", "width": 200, "height": 100},
            {"id": 3, "file_name": "c.jpg", "width": 50, "height": 50},
        ],
        "categories": [
            {"id": 3, "name": "cat", "supercategory": "animal"},
            {"id": 5, "name": "dog"},
            {"id": 7, "name": "person"},
            {"id": 8, "name": "traffic light"},
            {"id": 9, "name": "zebra"},
        ],
    }
    return tables | changes


def annotation(identity: int, picture: int, category: int, box: Any, **fields: Any) -> dict[str, Any]:
    found = {"id": identity, "image_id": picture, "category_id": category, "bbox": box, "iscrowd": 0}
    return found | {"segmentation": [[1.5, 2.5]]} | fields


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes tables as a file, with the pictures of `instances` in `pictures/`; returns the file."""

    def write(tables: Any, name: str = "instances_train2017.json") -> Path:
        for picture, size in (("a.jpg", (100, 80)), ("b.jpg", (200, 100)), ("c.jpg", (50, 50))):
            path = tmp_path / "pictures" / picture
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(jpeg(size))
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(tables if isinstance(tables, str) else json.dumps(tables))
        return file

    return write
