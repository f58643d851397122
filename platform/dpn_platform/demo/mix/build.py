"""Draw a raw set with the shape of the 665K mix and store it in LLaVA's layout, defects planted and counted.

The text of all records (about 1 KB each) is held in memory until it is written; images are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dpn_platform.config.errors import DpnError
from dpn_platform.data.reading.order import permutation
from dpn_platform.demo.mix.composition import PARTS, Part, draw_turns, part_sizes
from dpn_platform.demo.mix.dirt import DIRT, Dirt, ImageDirt, to_bytes
from dpn_platform.demo.mix.pictures import draw_photo, encode
from dpn_platform.storage import exists, join_uri, require_bucket, write_bytes, write_json

SPLIT = "train"
#: not beside the records: `{folder}/*.json` are splits
TRUTH_PATH = "truth/planted.json"
_UPLOAD_THREADS = 8
_BATCH = 64


@dataclass(frozen=True)
class MixRecipe:
    """What determines a mix.

    Attributes:
        rows: records, defective ones included.
        dirty: fraction of them with a planted defect; defects of all sorts take turns, in records with an image.
        seed: of everything drawn.
        scale: of the images' sides; 1 is photo-like (640x480).
        lines: JSON lines instead of one list.
    """

    rows: int
    dirty: float = 0.0
    seed: int = 0
    scale: float = 1.0
    lines: bool = False

    @property
    def file_name(self) -> str:
        """Of the annotation file."""
        return f"{SPLIT}.jsonl" if self.lines else f"{SPLIT}.json"


@dataclass(frozen=True)
class _Row:
    """Where a row comes from: the part, its number there, the defect planted in it."""

    part: Part
    number: int
    dirt: str | None


def make_mix(uri: str, recipe: MixRecipe, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Draws the set into a folder; its records are written last.

    Args:
        uri: folder for train.json (or train.jsonl), images and `truth/planted.json`.
        recipe: what to draw.
        on_progress: called with (records done, records in all).

    Returns:
        What `truth/planted.json` holds: `rows`, `text_only`, `planted` (rows by kind, see `policy.KINDS`), `by_dirt`.

    Raises:
        DpnError: a raw set is there already (it is never overwritten), or the storage refused.
    """
    require_bucket(uri)
    for name in (f"{SPLIT}.json", f"{SPLIT}.jsonl"):
        if exists(join_uri(uri, name)):
            raise DpnError(f"{join_uri(uri, name)} is there already; choose another folder")
    rows = _plan(recipe)
    texts: list[bytes] = []
    sound = b""
    with ThreadPoolExecutor(_UPLOAD_THREADS) as pool:
        for first in range(0, len(rows), _BATCH):
            batch = rows[first : first + _BATCH]
            list(pool.map(lambda row: _store_image(uri, recipe, row), batch))
            for row in batch:
                texts.append(sound if row.dirt == "duplicate" else _text(recipe, row))
                sound = texts[-1] if row.dirt is None else sound
            if on_progress is not None:
                on_progress(len(texts), len(rows))
    planted = Counter(row.dirt for row in rows if row.dirt is not None)
    kinds: Counter[str] = Counter()
    for name, count in planted.items():
        kinds[DIRT[name].kind] += count
    text_only = sum(not row.part.folders for row in rows)
    summary = {"rows": len(rows), "text_only": text_only, "planted": dict(kinds), "by_dirt": dict(planted)}
    write_json(join_uri(uri, TRUTH_PATH), {**summary, "recipe": asdict(recipe)})
    body = b"".join(text + b"\n" for text in texts) if recipe.lines else b"[" + b",\n".join(texts) + b"]\n"
    write_bytes(join_uri(uri, recipe.file_name), body)
    return summary


def _plan(recipe: MixRecipe) -> list[_Row]:
    """All rows in shuffled order; the first is sound, so that a duplicate has something to repeat."""
    members = [
        (part, number) for part, size in zip(PARTS, part_sizes(recipe.rows), strict=True) for number in range(size)
    ]
    order = permutation(len(members), "mix", recipe.seed)
    with_image = [place for place, index in enumerate(order) if place and members[index][0].folders]
    sorts = [name for name in DIRT if recipe.lines or name != "not_json"]
    wanted = min(round(recipe.rows * recipe.dirty), len(with_image))
    chosen = permutation(len(with_image), "dirt", recipe.seed)[:wanted]
    dirt = {with_image[choice]: sorts[turn % len(sorts)] for turn, choice in enumerate(chosen)}
    return [_Row(members[index][0], members[index][1], dirt.get(place)) for place, index in enumerate(order)]


def _dirt(row: _Row) -> Dirt | None:
    return None if row.dirt is None else DIRT[row.dirt]


def _rng(recipe: MixRecipe, row: _Row, what: int) -> np.random.Generator:
    return np.random.default_rng((recipe.seed, PARTS.index(row.part), row.number, what))


def _image_path(row: _Row) -> str | None:
    """Sound records of a part share images; a defective file is its record's own."""
    part, dirt = row.part, _dirt(row)
    if not part.folders:
        return None
    image = row.number // part.records_per_image
    folder = part.folders[image % len(part.folders)]
    if isinstance(dirt, ImageDirt):
        return f"{folder}/{part.name}_dirty_{row.number:08d}{dirt.suffix}"
    return f"{folder}/{part.name}_{image:08d}.jpg"


def _store_image(uri: str, recipe: MixRecipe, row: _Row) -> None:
    """Sound images are written by every record that shows one: their content depends on the image alone."""
    path, dirt = _image_path(row), _dirt(row)
    if path is None:
        return
    shared = _Row(row.part, row.number // row.part.records_per_image, None)
    size = (round(row.part.size[0] * recipe.scale), round(row.part.size[1] * recipe.scale))
    if isinstance(dirt, ImageDirt):
        image = draw_photo(_rng(recipe, row, 2), size, row.part.bytes_per_pixel)
        write_bytes(join_uri(uri, path), dirt.spoil(image))
    elif row.dirt is not None or row.number % row.part.records_per_image == 0 or not exists(join_uri(uri, path)):
        image = draw_photo(_rng(recipe, shared, 1), size, row.part.bytes_per_pixel)
        write_bytes(join_uri(uri, path), encode(image))


def _text(recipe: MixRecipe, row: _Row) -> bytes:
    """The record's JSON, spoilt if its text is to be."""
    conversations: list[dict[str, str]] = []
    path = _image_path(row)
    for number, (question, answer) in enumerate(draw_turns(row.part, _rng(recipe, row, 0))):
        lead = "<image>\n" if number == 0 and path else ""
        conversations += [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    record: dict[str, Any] = {"id": f"{row.part.name}-{row.number:08d}"}
    record |= {"image": path} if path else {"model": "vicuna"}
    record["conversations"] = conversations
    dirt = _dirt(row)
    return to_bytes(record) if dirt is None or isinstance(dirt, ImageDirt) else dirt.spoil(record)
