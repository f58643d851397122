"""Rexverse-2M, and other sets in its group's TSV: pictures with boxes, of each of which something is said.

A row of annotations is the offset of its picture's row, a tab, and JSON: `{"boxes": [{"bbox": [...], "phrase": ...}]}`.
Source: spec chatrex 6.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from dpn_model.objects.boxes import MAX_OBJECTS, FloatArray, box_array
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.box_reading import corners, decided_reading
from dpn_platform.data.convert.boxes import clipped, nameable
from dpn_platform.data.convert.detection import TOO_MANY
from dpn_platform.data.convert.image_parts import ImageParts
from dpn_platform.data.convert.instances import NO_AREA
from dpn_platform.data.convert.options import ConvertOptions, Progress, Reading, is_training
from dpn_platform.data.convert.questions import BRIEFLY, ONE_SENTENCE, is_askable, is_group_text, tidy
from dpn_platform.data.convert.raw_folder import RawFolder
from dpn_platform.data.convert.referring import Expression, Wording, referring_records
from dpn_platform.data.convert.tsv_files import TsvFiles, tsv_files
from dpn_platform.data.ingest.record_forms import keys_of, what_is
from dpn_platform.data.ingest.sources import DEFAULT_SPLIT, read_lines
from dpn_platform.storage import join_uri, write_bytes

PHRASE, CAPTION = "phrase", "caption"
#: reasons why something is left out
OTHER_FORM, NO_PICTURE, NO_TEXT = "rows of another form", "pictures that cannot be read", "boxes without a usable text"
_THREADS, _ROWS_AT_ONCE = 16, 64
#: folders that the pictures are spread over: a million files in one are slow to list
_FOLDERS = 1000


@dataclass(frozen=True)
class _Row:
    """A row of annotations; `boxes` float64[N, 4] as they are written, `texts` of each."""

    number: int
    offset: int
    boxes: FloatArray
    texts: tuple[str, ...]


def convert(source: str, folder: RawFolder, options: ConvertOptions, on_progress: Progress) -> None:
    """Adds a split; its pictures are written into the folder's `images/` as they are.

    Args:
        source: the annotations, or a folder with one such file.
        folder: what to write into.
        options: split, ask, turns, images, boxes, text.
        on_progress: called with (rows done, rows of the file, or those done where no index tells them).

    Raises:
        DpnError: files are missing or of another form, or it is not clear how boxes are to be read.
    """
    files = tsv_files(source, options.images)
    split = options.split or DEFAULT_SPLIT
    folder.begin(split)
    pictures = ImageParts(files.pictures)
    field = options.text or _text_field(files)
    reading = options.boxes or decided_reading(_lists(files, pictures, field), files.annotations)
    folder.decided |= {"boxes": reading, "text": field}
    maker = _Maker(split, field, reading, options)
    rows = _rows(files, field, folder.left_out)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            for records, left_out in pool.map(lambda row: maker.of_row(row, pictures, folder.uri), batch):
                folder.left_out.update(left_out)
                for record in records:
                    folder.add(split, record)
            done = batch[-1].number + 1
            on_progress(done, max(files.rows, done))


class _Maker:
    """Makes the records of rows, and writes the pictures of those that give some."""

    def __init__(self, split: str, field: str, reading: Reading, options: ConvertOptions) -> None:
        self._split, self._reading = split, reading
        asks = options.ask or (("describe",) if field == CAPTION else ("detect",))
        self._wording = Wording(asks, ONE_SENTENCE if field == CAPTION else BRIEFLY, options.turns)
        self._is_usable = is_askable if "detect" in asks else is_group_text

    def of_row(self, row: _Row, pictures: ImageParts, target: str) -> tuple[list[dict[str, Any]], Counter[str]]:
        """(records, what was left out)."""
        left_out: Counter[str] = Counter()
        picture = pictures.picture(row.offset)
        if picture is None:
            left_out[NO_PICTURE] += 1
            return [], left_out
        inside, has_area = clipped(corners(row.boxes, self._reading), picture.size)
        left_out[NO_AREA] += int(np.sum(~has_area))
        boxes = inside[has_area]
        texts = [text for text, kept in zip(row.texts, has_area.tolist(), strict=True) if kept]
        if len(boxes) > MAX_OBJECTS and is_training(self._split):
            left_out[TOO_MANY] += 1
            return [], left_out
        shown = nameable(boxes, ()).tolist()
        meant: dict[str, list[int]] = {}
        for index, place in enumerate(shown):
            if self._is_usable(texts[place]):
                meant.setdefault(texts[place], []).append(index)
            else:
                left_out[NO_TEXT] += 1
        expressions = [
            Expression(f"{row.number}-{number}", text, tuple(indices))
            for number, (text, indices) in enumerate(meant.items())
        ]
        path = f"images/{row.offset % _FOLDERS:03d}/{row.offset}.{picture.ending}"
        seen = {"image": path, "boxes": boxes[shown].tolist()}
        records = list(referring_records(self._split, str(row.number), seen, expressions, self._wording))
        if records:
            write_bytes(join_uri(target, path), picture.data)
        return records, left_out


def _lists(files: TsvFiles, pictures: ImageParts, field: str) -> Iterator[tuple[FloatArray, tuple[int, int]]]:
    for row in _rows(files, field, Counter()):
        if len(row.boxes) and (picture := pictures.picture(row.offset)) is not None:
            yield row.boxes, picture.size


def _text_field(files: TsvFiles) -> str:
    """The field of the first box that holds a text."""
    for line in read_lines(files.annotations):
        for box in _parsed(files, 0, line)[1]:
            found = [name for name in (PHRASE, CAPTION) if isinstance(box.get(name), str)]
            if found:
                return found[0]
            told = f"a box has the fields {keys_of(box)}"
            raise DpnError(f"{files.annotations}: {told}; wanted {PHRASE} or {CAPTION}, or another one by --text")
    raise DpnError(f"{files.annotations}: no row has a box")


def _rows(files: TsvFiles, field: str, left_out: Counter[str]) -> Iterator[_Row]:
    number = -1
    for number, line in enumerate(read_lines(files.annotations)):
        try:
            offset, entries = _parsed(files, number, line)
            boxes = _boxes(files, number, entries)
        except DpnError:
            if number == 0:
                raise
            left_out[OTHER_FORM] += 1
            continue
        texts = [entry.get(field) for entry in entries]
        yield _Row(number, offset, boxes, tuple(tidy(text) if isinstance(text, str) else "" for text in texts))
    if number + 1 < files.rows:
        raise DpnError(f"{files.annotations}: has {number + 1} rows, its index {files.rows}; is it whole?")


def _boxes(files: TsvFiles, number: int, entries: list[dict[str, Any]]) -> FloatArray:
    try:
        boxes = box_array([entry["bbox"] for entry in entries])
    except (KeyError, ValueError):
        boxes = box_array([])
    if len(boxes) < len(entries):
        raise DpnError(f"{files.annotations}: row {number}: boxes without a bbox of four numbers")
    return boxes


def _parsed(files: TsvFiles, number: int, line: bytes) -> tuple[int, list[dict[str, Any]]]:
    where = f"{files.annotations}: row {number}"
    offset, tab, text = line.partition(b"\t")
    if not tab or not offset.isdigit():
        raise DpnError(f"{where} begins with {line[:40].decode(errors='replace')!r}; wanted an offset, a tab and JSON")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DpnError(f"{where}: not valid JSON ({error})") from None
    entries = row.get("boxes") if isinstance(row, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DpnError(f"{where} holds {what_is(row)}; wanted 'boxes', a list of objects with a bbox and a text")
    return int(offset), entries
