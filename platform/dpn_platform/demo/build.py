"""Draw the demo set and put it into the store in LLaVA's own layout: one JSON list per split, JPEG files in folders."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.demo.detection.records import draw_record
from dpn_platform.demo.drawing import SIDE
from dpn_platform.demo.families import FAMILIES, MAX_TURNS, VISUAL_FAMILIES, DemoSample, draw_sample
from dpn_platform.demo.recipe import DemoRecipe
from dpn_platform.storage import exists, write_bytes, write_json

JPEG_QUALITY = 92
_UPLOAD_THREADS = 16
_BATCH = 256
#: records of each family among twenty of the training split; the test split asks every visual family equally often
TRAIN_MIX = {"existence": 3, "counting": 4, "relation": 4, "colour": 4, "reading": 4, "arithmetic": 1}
_MIX = tuple(family for family in FAMILIES for _ in range(TRAIN_MIX[family]))
TWO_TURNS_SHARE = 0.2


def make_demo(dest_uri: str, recipe: DemoRecipe, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Draw both splits into `dest_uri`.

    Args:
        dest_uri: folder for train.json, test.json and images/; must not hold a demo set yet.
        recipe: what to draw.
        on_progress: called with (records done, records in all).

    Raises:
        DpnError: bad sizes, or a demo set is there already (it is never overwritten).
    """
    sizes = {"train": recipe.num_train, "test": recipe.num_test}
    if min(sizes.values()) < 1 or recipe.image_size < 48 or recipe.image_size % SIDE:
        raise DpnError(
            f"num_train = {recipe.num_train}, num_test = {recipe.num_test}, image_size = {recipe.image_size}; "
            "allowed: at least 1 record per split, image_size a multiple of 4 from 48"
        )
    if exists(f"{dest_uri}/train.json"):
        raise DpnError(f"{dest_uri} holds a demo set already; choose another folder")
    done = 0
    # The JSON lists come last: a folder without them is not a data set.
    records: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    with ThreadPoolExecutor(_UPLOAD_THREADS) as pool:
        for split, size in sizes.items():
            for first in range(0, size, _BATCH):
                uploads = []
                for index in range(first, min(first + _BATCH, size)):
                    record, image = _drawn(recipe, split, index)
                    records[split].append(record)
                    if image is not None:
                        buffer = io.BytesIO()
                        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
                        uploads.append(pool.submit(write_bytes, f"{dest_uri}/{record['image']}", buffer.getvalue()))
                for upload in uploads:
                    upload.result()
                done += min(_BATCH, size - first)
                if on_progress is not None:
                    on_progress(done, sum(sizes.values()))
    for split in ("test", "train"):  # train.json is what says that the set is whole
        write_json(f"{dest_uri}/{split}.json", records[split])


def _drawn(recipe: DemoRecipe, split: str, index: int) -> tuple[dict[str, Any], Image.Image | None]:
    """A record and its picture."""
    image: Image.Image | None
    if recipe.kind == "detection":
        asked, image = draw_record(recipe.seed, split, index)
        record = {"id": f"detection-{split}-{index:06d}", **asked}
    else:
        sample = _draw(recipe, split, index)
        record, image = _record(split, index, sample), sample.image
    return (record if image is None else record | {"image": _path(split, index)}), image


def _path(split: str, index: int) -> str:
    return f"images/{split}/{index // 1000:03d}/{index:06d}.jpg"


def _draw(recipe: DemoRecipe, split: str, index: int) -> DemoSample:
    """Test records carry one question, whatever the training records carry."""
    rng = np.random.default_rng((recipe.seed, split == "test", index))
    if split == "test":
        return draw_sample(VISUAL_FAMILIES[index % len(VISUAL_FAMILIES)], rng, recipe.image_size)
    family = _MIX[index % len(_MIX)]
    if recipe.captions:
        return draw_sample(family, rng, recipe.image_size, MAX_TURNS, caption=True)
    return draw_sample(family, rng, recipe.image_size, 2 if rng.random() < TWO_TURNS_SHARE else 1)


def _record(split: str, index: int, sample: DemoSample) -> dict[str, Any]:
    conversations: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(sample.turns):
        lead = "<image>\n" if number == 0 and sample.image is not None else ""
        conversations += [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    record: dict[str, Any] = {"id": f"demo-{split}-{index:06d}", "conversations": conversations}
    return record | {"family": sample.family, "difficulty": sample.difficulty}
