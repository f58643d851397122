"""A small published set on disk: pictures with and without boxes, one without a picture, one with two."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.data.ingest.assembly import Origin, assemble
from dpn_platform.data.ingest.finished import finish_slice
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import folder_source
from dpn_platform.data.published.manifest import Manifest, publish_manifest
from dpn_platform.storage import write_bytes, write_json

SIZES = [(64, 48), (48, 64), (80, 80)]
TRUTH = {"boxes": [[4, 4, 20, 24], [30, 10, 44, 40]], "categories": ["red circle", "dog"]}


def record(number: int, **fields: Any) -> dict[str, Any]:
    """One about the picture of that number."""
    ask = "<image>\nPlease detect red circle; dog in this image. Answer the question with object indexes."
    turns = [{"from": "human", "value": ask}, {"from": "gpt", "value": "none"}]
    return {"id": f"r{number}", "image": f"img/{number}.png", "conversations": turns, **fields}


def records(count: int) -> list[dict[str, Any]]:
    """By turns with true boxes, with none known, with a detector's boxes beside the truth; then the odd ones."""
    kinds: list[dict[str, Any]] = [
        {"boxes": TRUTH["boxes"]},
        {},
        {"boxes": [[4, 4, 20, 23]], "scores": [0.7], "truth": {**TRUTH, "crowd": [False, True]}},
    ]
    found = [record(number, **kinds[number % 3]) for number in range(count)]
    text = [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "Yes."}]
    two = [{"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "Both."}]
    found.append({"id": "text", "conversations": text})
    found.append({"id": "two", "image": ["img/0.png", "img/1.png"], "conversations": two})
    return found


def publish_set(folder: Path, count: int = 7, rows_per_shard: int = 4, name: str = "set") -> Manifest:
    """Draws and ingests it, without Ray."""
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        write_bytes(folder / f"raw/img/{number}.png", buffer.getvalue())
    write_json(folder / "raw/train.json", records(count))
    raw, target, files = folder_source(f"{folder}/raw"), f"{folder}/{name}", {}
    build = BuildOptions(raw.image_roots)
    results = [finish_slice(part) for part in read_slices(raw, target, build, rows_per_shard, files)]
    return publish_manifest(target, assemble(results, target, Origin("set", raw.name, None, files, None), build))


def lines(count: int, key: str = "id", step: int = 1) -> str:
    """A file of proposals for every `step`-th picture."""
    found = []
    for number in range(0, count, step):
        boxes, scores = [[4, 4, 20, 24], [5 + number, 20, 40, 44.125], [40, 40, 47, 48]], [0.9, 0.61234567, 0.2]
        name = f"r{number}" if key == "id" else f"img/{number}.png"
        found.append(json.dumps({key: name, "boxes": boxes, "scores": scores}) + "\n")
    return "".join(found)
