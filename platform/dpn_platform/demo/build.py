"""Draw the demo set and put it into the store in LLaVA's own layout: one JSON list per split, JPEG files in folders."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpn_platform.config.errors import DpnError
from dpn_platform.demo.drawing import SIDE
from dpn_platform.demo.families import FAMILIES, MAX_TURNS, VISUAL_FAMILIES, DemoSample, draw_sample
from dpn_platform.storage import exists, write_bytes, write_json

JPEG_QUALITY = 92
_UPLOAD_THREADS = 16
_BATCH = 256
#: records of each family among twenty of the training split; the test split asks every visual family equally often
TRAIN_MIX = {"existence": 3, "counting": 4, "relation": 4, "colour": 4, "reading": 4, "arithmetic": 1}
_MIX = tuple(family for family in FAMILIES for _ in range(TRAIN_MIX[family]))
TWO_TURNS_SHARE = 0.2


@dataclass(frozen=True)
class DemoSummary:
    """What was drawn: records per split and family, and the recipe that draws it again."""

    uri: str
    seed: int
    image_size: int
    captions: bool
    counts: dict[str, dict[str, int]]


def make_demo(
    dest_uri: str,
    *,
    num_train: int = 6000,
    num_test: int = 1000,
    seed: int = 0,
    image_size: int = 96,
    captions: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoSummary:
    """Draw both splits into `dest_uri`.

    Args:
        dest_uri: folder for train.json, test.json and images/; must not hold a demo set yet.
        num_train, num_test: records per split. Every record is a pure function of (seed, split, index).
        seed: of everything drawn.
        image_size: side of the pictures in pixels; a multiple of 4, at least 48.
        captions: what a base learns from: every training picture comes with up to `MAX_TURNS` questions and a caption.
            Otherwise with one question, or two for one picture in five: what a trial is fine-tuned on.
        on_progress: called with (records done, records in all).

    Raises:
        DpnError: bad sizes, or a demo set is there already (it is never overwritten).
    """
    if min(num_train, num_test) < 1 or image_size < 48 or image_size % SIDE:
        raise DpnError(
            f"num_train = {num_train}, num_test = {num_test}, image_size = {image_size}; "
            "allowed: at least 1 record per split, image_size a multiple of 4 from 48"
        )
    if exists(f"{dest_uri}/train.json"):
        raise DpnError(f"{dest_uri} holds a demo set already; choose another folder")
    sizes = {"train": num_train, "test": num_test}
    done = 0
    # The JSON lists come last: a folder without them is not a data set.
    records: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    with ThreadPoolExecutor(_UPLOAD_THREADS) as pool:
        for split, size in sizes.items():
            for batch in _batches(size):
                samples = [_draw(seed, split, index, image_size, captions) for index in batch]
                records[split] += _store(pool, dest_uri, split, batch, samples)
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, sum(sizes.values()))
    for split in ("test", "train"):  # train.json is what says that the set is whole
        write_json(f"{dest_uri}/{split}.json", records[split])
    counts = {split: dict(Counter(row["family"] for row in rows)) for split, rows in records.items()}
    return DemoSummary(dest_uri, seed, image_size, captions, counts)


def _store(
    pool: ThreadPoolExecutor, dest_uri: str, split: str, batch: range, samples: list[DemoSample]
) -> list[dict[str, Any]]:
    """Upload the pictures of a batch; returns its records."""
    rows = [(index, sample, _image_path(split, index)) for index, sample in zip(batch, samples, strict=True)]
    uploads = [
        pool.submit(write_bytes, f"{dest_uri}/{path}", _jpeg(sample))
        for _, sample, path in rows
        if sample.image is not None
    ]
    for upload in uploads:
        upload.result()
    return [_record(split, *row) for row in rows]


def _batches(size: int) -> Iterator[range]:
    return (range(first, min(first + _BATCH, size)) for first in range(0, size, _BATCH))


def _draw(seed: int, split: str, index: int, image_size: int, captions: bool) -> DemoSample:
    """Test records carry one question, whatever the training records carry."""
    rng = np.random.default_rng((seed, split == "test", index))
    if split == "test":
        return draw_sample(VISUAL_FAMILIES[index % len(VISUAL_FAMILIES)], rng, image_size)
    family = _MIX[index % len(_MIX)]
    if captions:
        return draw_sample(family, rng, image_size, MAX_TURNS, caption=True)
    return draw_sample(family, rng, image_size, 2 if rng.random() < TWO_TURNS_SHARE else 1)


def _image_path(split: str, index: int) -> str:
    return f"images/{split}/{index // 1000:03d}/{index:06d}.jpg"


def _jpeg(sample: DemoSample) -> bytes:
    buffer = io.BytesIO()
    assert sample.image is not None
    sample.image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _record(split: str, index: int, sample: DemoSample, path: str) -> dict[str, Any]:
    conversations: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(sample.turns):
        lead = "<image>\n" if number == 0 and sample.image is not None else ""
        conversations += [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    record = {"id": f"demo-{split}-{index:06d}", "conversations": conversations}
    if sample.image is not None:
        record["image"] = path
    return record | {"family": sample.family, "difficulty": sample.difficulty}
