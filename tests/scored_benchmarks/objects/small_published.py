"""A published data set with boxes in miniature: records of all families, as drawn sets and converters write them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dpn_model.objects.record import ObjectRecord
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.published.schema import SCHEMA_VERSION, content_digest, shard_bytes, shard_table

SIZE = (100, 80)
CANONICAL = "Please detect {} in this image. Answer the question with object indexes."


def group(phrase: str, *indices: int) -> str:
    return f"<ground>{phrase}</ground><objects>{''.join(f'<obj{index}>' for index in indices)}</objects>"


def record(
    identity: str, family: str, question: str, answer: str, *, picture: int = 0, **objects: Any
) -> dict[str, Any]:
    """A record, whose picture is one of some plain ones; without boxes where `objects` says nothing."""
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": identity, "family": family, "conversations": turns, "picture": picture, "objects": objects}


# A detector's boxes: the first lies on one of two circles, the second beside the square, the third on nothing.
DRAWN = {
    "boxes": [[10, 10, 30, 30], [52, 10, 72, 30], [70, 50, 90, 70]],
    "scores": [0.9, 0.8, 0.3],
    "truth": {
        "boxes": [[10, 10, 30, 31], [50, 10, 70, 30], [10, 40, 40, 70]],
        "categories": ["red circle", "blue square", "red circle"],
    },
}
# True boxes, and what a detector offered beside them: the best one on the second dog, the other on the cat.
CONVERTED = {
    "boxes": [[0, 0, 20, 20], [30, 0, 60, 20], [70, 40, 100, 80]],
    "truth": {
        "boxes": [[0, 0, 20, 20], [30, 0, 60, 20], [70, 40, 100, 80]],
        "categories": ["dog", "dog", "cat"],
        "area": [250.0, 300.0, 700.0],
    },
    "proposals": {"boxes": [[30, 0, 60, 21], [70, 40, 99, 80]], "scores": [0.7, 0.6]},
}
_NAME = "What is the category name of <obj0>? Answer the question with its category name in free format."
RECORDS = [
    record(
        "d0",
        "detect",
        "detect red circle ; blue square ; star",
        f"{group('red circle', 0)}\n{group('blue square', 1)}\n{group('star')}",
        **DRAWN,
    ),
    record(
        "d1",
        "detection",
        CANONICAL.format("cat; dog"),
        f"{group('cat', 2)}\n{group('dog', 0, 1)}",
        picture=1,
        **CONVERTED,
    ),
    record("r0", "refer", "detect the left red circle", group("left red circle", 0), **DRAWN),
    record("r1", "referring", CANONICAL.format("the larger dog"), group("the larger dog", 1), picture=1, **CONVERTED),
    record("r2", "referring", CANONICAL.format("a horse"), group("a horse"), picture=1, **CONVERTED),
    record("n0", "name", "what is <obj1> ?", "blue square", **DRAWN),
    record("n1", "naming", _NAME, group("dog", 0), picture=1, **CONVERTED),
    record("c0", "count", "how many red circle ?", f"one {group('red circle', 0)}", **DRAWN),
    record("c1", "counting", "How many dogs?", f"There are 2 {group('dogs', 0, 1)}.", picture=1, **CONVERTED),
    record("w0", "read", "which digit is there ?", "7", **DRAWN),
    record("p0", "detection", "detect dog", "there is none", picture=2),
]


def publish_records(folder: Path, records: Sequence[Mapping[str, Any]] = tuple(RECORDS), split: str = "test") -> str:
    """Publishes records in shards of four rows; returns the data set's folder."""
    rows = [_row(number, one, split) for number, one in enumerate(records)]
    shards = []
    for start in range(0, len(rows), 4):
        table = shard_table(rows[start : start + 4])
        data = shard_bytes(table)
        path = f"shards/{start}.parquet"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        shards.append(
            Shard(
                path=path, rows=len(table), first_row_id=rows[start]["row_id"], bytes=len(data), sha256="",
                content_sha256=content_digest(table),
            )
        )  # fmt: skip
    families = [row["source"] for row in rows]
    sources = {family: families.count(family) for family in families}
    splits = {split: Split(rows=len(rows), images=len(rows), text_only=0, sources=sources, shards=tuple(shards))}
    content = {"schema_version": SCHEMA_VERSION, "name": "shapes", "source": "", "splits": splits}
    manifest = Manifest(**content, quarantine=Quarantine(), fingerprint=fingerprint_of(splits))
    publish_manifest(str(folder), manifest, force=True)
    return str(folder)


def write_answers(
    path: Path, answers: Mapping[str, str], metadata: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """An answer file: id -> text, as another program would leave it."""
    lines = [
        {"question_id": identity, "prompt": "", "text": text, "metadata": dict((metadata or {}).get(identity, {}))}
        for identity, text in answers.items()
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def _row(number: int, one: Mapping[str, Any], split: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    size, fields = one.get("size", SIZE), one["objects"]
    Image.new("RGB", size, (40 * one["picture"], 90, 120)).save(buffer, "PNG")
    return {
        "row_id": number,
        "source_row": number,
        "id": one["id"],
        "split": split,
        "source": one["family"],
        "conversations": json.dumps(one["conversations"]),
        "num_turns": 1,
        "text_length": 1,
        "prompt_tokens": 1,
        "answer_tokens": 1,
        "expected_cost": 1,
        "has_image": True,
        "width": size[0],
        "height": size[1],
        "image": buffer.getvalue(),
        "objects": ObjectRecord.of_fields(fields, size).to_json() if fields else None,
    }
