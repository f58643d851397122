"""The questions of a benchmark as the runner asks them: prompt, limit, and where each picture is."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from dpn_platform.benchmarks.contract import PARQUET, PUBLISHED, Benchmark, Layout, Row
from dpn_platform.benchmarks.files.base64_pictures import decoded
from dpn_platform.benchmarks.files.fields import SCALAR, TEXT, WHOLE, Kind, check_fields, either, list_of
from dpn_platform.benchmarks.files.file_content import suffix_of
from dpn_platform.benchmarks.files.parquet_rows import read_placed_rows
from dpn_platform.benchmarks.files.published import IMAGE_TAG, num_pictures, published_rows
from dpn_platform.benchmarks.files.question_sources import Sources
from dpn_platform.benchmarks.files.sources import read_rows
from dpn_platform.benchmarks.files.tables import TABLES, read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import join_uri, list_files

_TURNS = Kind(
    "a list whose first turn has a text as its value",
    lambda value: isinstance(value, list) and value != [] and isinstance(value[0], Mapping),
    lambda value: [("[0].value", value[0].get("value"), TEXT)],
)
#: what prompts are made of means the same in every benchmark: where the first question has it, every one has
_NEEDED = {
    "text": TEXT,
    "question": TEXT,
    "conversations": _TURNS,
    "choices": list_of(SCALAR, "a list of choices"),
    "index": WHOLE,
}
_MORE = {
    "hint": TEXT,
    "options": either("a list of options, or a text with one", TEXT, list_of(SCALAR, "a list")),
    "ocr_tokens": list_of(TEXT, "a list of texts"),
}
# VLMEvalKit's tables write the index of another row where a picture repeats; no encoded picture is that short.
_LONGEST_INDEX = 64


@dataclass(frozen=True)
class PictureRef:
    """Where an encoded picture is: a file; cell `row` of parquet column `column` (`item` of a list); `data` itself."""

    uri: str = ""
    column: str = ""
    row: int = 0
    item: int = 0
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        place: in the question file.
        text: what the model is asked, without conversation template. Of a published data set with its image tags, which
            say where the pictures stand; else without, and they stand before it.
        stored_prompt: what the answer file keeps of it.
        group: questions of one picture have the same.
        family: for routing statistics.
        difficulty: as recorded.
        fixed_answer: the answer where the protocol does not run the model.
        fields: what the answer's line has beside LLaVA's common fields.
        boxes: on its picture, in pixels; None: a question without.
    """

    place: int
    id: Any
    text: str
    stored_prompt: str
    max_new_tokens: int
    pictures: tuple[PictureRef, ...]
    group: str
    family: str
    fixed_answer: str | None = None
    difficulty: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    boxes: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class _Record:
    """A row of the question file, and its pictures by column."""

    row: Row
    pictures: Mapping[str, tuple[PictureRef, ...]]


def read_questions(benchmark: Benchmark, sources: Sources, variant: str, limit: int | None = None) -> list[Question]:
    """The questions in the file's order.

    Raises:
        DpnError: not the benchmark's question file, or pictures that are missing: how many, and the first of them.
    """
    layout = sources.layout
    records: Iterator[_Record]
    if layout.name == PUBLISHED:
        records = _of_published(sources)
    elif layout.name == PARQUET:
        records = _of_parquet(sources, benchmark)
    elif suffix_of(sources.questions) in TABLES:
        records = _of_table(sources)
    else:
        records = _of_lines(sources, benchmark)
    taken = (record for record in records if layout.is_asked is None or layout.is_asked(record.row))
    asked = list(islice(taken, limit))
    if not asked:
        raise DpnError(f"{sources.questions}: no question of {benchmark.name} in it")
    return [_question(benchmark, sources, variant, place, record) for place, record in enumerate(asked)]


def _question(benchmark: Benchmark, sources: Sources, variant: str, place: int, record: _Record) -> Question:
    row, layout = record.row, sources.layout
    is_published = layout.name == PUBLISHED
    try:
        prompt = benchmark.prompt(row, variant)
        identity = row[layout.id] if layout.id else place
    except KeyError as error:
        raise DpnError(
            f"{sources.questions}: record {place + 1} has no {error}, so it is not {benchmark.name}'s question file "
            f"(found: {', '.join(map(str, list(row)[:8]))})"
        ) from None
    pictures = () if prompt.fixed_answer is not None else _shown(prompt.images, record, sources, identity)
    return Question(
        place=row["row_id"] if is_published else place,
        id=identity,
        # Elsewhere the model's own side says where pictures stand.
        text=prompt.text if is_published else prompt.text.replace(IMAGE_TAG, "").strip(),
        stored_prompt=prompt.text if benchmark.stored_prompt is None else benchmark.stored_prompt(prompt),
        max_new_tokens=prompt.max_new_tokens,
        pictures=pictures,
        group=_group(layout, row, place),
        family=str(row.get(layout.family) or benchmark.name) if layout.family else benchmark.name,
        fixed_answer=prompt.fixed_answer,
        difficulty=None if row.get("difficulty") is None else str(row["difficulty"]),
        fields={} if benchmark.answer_fields is None else benchmark.answer_fields(row),
        boxes=prompt.boxes,
    )


def _shown(names: tuple[str, ...], record: _Record, sources: Sources, identity: Any) -> tuple[PictureRef, ...]:
    for name in names:
        if not record.pictures.get(name):
            raise DpnError(f"{sources.questions}: question '{identity}' has no picture in '{name}'")
    return tuple(picture for name in names for picture in record.pictures[name])


def _group(layout: Layout, row: Row, place: int) -> str:
    """Only says what should travel together; pictures are told apart by their content."""
    key = layout.picture(row) if callable(layout.picture) else row.get(layout.picture) if layout.picture else None
    return f"row {place}" if key is None else str(key)


def _check(rows: list[Row], sources: Sources, benchmark: Benchmark, **more: Kind) -> None:
    needed = {name: kind for name, kind in _NEEDED.items() if rows and name in rows[0]}
    if sources.layout.id:
        needed[sources.layout.id] = SCALAR
    check_fields(rows, sources.questions, benchmark.name, needed, **_MORE, **more)


def _of_lines(sources: Sources, benchmark: Benchmark) -> Iterator[_Record]:
    """LLaVA's question file; `image` is a file below the folder of pictures."""
    if sources.images is None:
        raise DpnError(f"{benchmark.name}: --images is needed, the folder with the pictures of {sources.questions}")
    rows = read_rows(sources.questions, "questions")
    _check(rows, sources, benchmark, image=SCALAR)
    there = set(list_files(sources.images))
    asked = [row for row in rows if sources.layout.is_asked is None or sources.layout.is_asked(row)]
    uris = {str(row["image"]): _file_of(sources.images, str(row["image"]), there) for row in asked if row.get("image")}
    missing = [name for name, uri in uris.items() if uri is None]
    if missing:
        raise DpnError(
            f"{sources.images}: {len(missing)} of the {len(uris)} pictures of {sources.questions} are missing "
            f"('{missing[0]}'{', ...' if len(missing) > 1 else ''}); nothing was evaluated"
        )
    for row in rows:
        uri = uris.get(str(row["image"])) if row.get("image") else None
        yield _Record(row, {} if uri is None else {"image": (PictureRef(uri),)})


def _file_of(folder: str, name: str, there: set[str]) -> str | None:
    """MME keeps the pictures of some subtasks one folder deeper than its question file says."""
    name = posixpath.normpath(name.replace("\\", "/"))
    parent, _, file = name.rpartition("/")
    places = (join_uri(folder, name), join_uri(folder, f"{parent}/images/{file}"))
    return next((place for place in places if place in there), None)


def _of_table(sources: Sources) -> Iterator[_Record]:
    """MMBench's table, which holds its pictures as base64."""
    rows = read_table(sources.questions, pictures=True)
    check_fields(rows, sources.questions, "MMBench", {sources.layout.id: WHOLE, "image": TEXT})
    images = {str(row[sources.layout.id]): row["image"].strip() for row in rows}
    for row in rows:
        image = row["image"].strip()
        try:
            data = decoded(images.get(image, "") if len(image) <= _LONGEST_INDEX else image)
        except ValueError as error:
            raise DpnError(f"{sources.questions}: the picture of {row[sources.layout.id]} {error}") from None
        plain = {name: value for name, value in row.items() if name != "image"}
        yield _Record(plain, {"image": (PictureRef(data=data),)} if data else {})


def _of_published(sources: Sources) -> Iterator[_Record]:
    for placed in published_rows(sources.questions, sources.layout.split):
        count = num_pictures(placed.row)
        first = [PictureRef(placed.uri, "image", placed.number)] if count else []
        more = [PictureRef(placed.uri, "more_images", placed.number, item) for item in range(count - 1)]
        yield _Record(placed.row, {"image": (*first, *more)})


def _of_parquet(sources: Sources, benchmark: Benchmark) -> Iterator[_Record]:
    placed = read_placed_rows(sources.questions, sources.layout.split)
    _check([item.row for item in placed], sources, benchmark)
    others = _picture_table(sources)
    for item in placed:
        pictures = {
            name: tuple(PictureRef(item.uri, name, item.number, place) for place in range(_num_pictures(value)))
            for name, value in item.row.items()
            if name.startswith("image")
        }
        if others is not None:
            pictures["image"] = others.get(str(item.row.get(str(sources.layout.picture))), ())
        yield _Record(item.row, pictures)


def _picture_table(sources: Sources) -> dict[str, tuple[PictureRef, ...]] | None:
    """GQA's pictures, which are a data set of their own: id -> picture."""
    if sources.images is None or not sources.layout.images:
        return None
    placed = read_placed_rows(sources.images, sources.layout.split, ("id",))
    return {str(item.row["id"]): (PictureRef(item.uri, "image", item.number),) for item in placed}


def _num_pictures(value: Any) -> int:
    """Of a cell without its bytes: a record, True (nothing is left of plain bytes), or a list of records."""
    if isinstance(value, list):
        return sum(isinstance(item, Mapping) for item in value)
    return int(value is True or isinstance(value, Mapping))
