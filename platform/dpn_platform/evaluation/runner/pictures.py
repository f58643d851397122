"""Fetches the encoded pictures of a shard and decodes them: whole files, cells of parquet files, or what came along."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image, UnidentifiedImageError

from dpn_platform.benchmarks.files.parquet_rows import read_cells
from dpn_platform.benchmarks.files.questions import PictureRef
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import Picture
from dpn_platform.storage import read_bytes

#: requests that wait for the store at once
_READERS = 8


def fetch(references: Sequence[PictureRef]) -> dict[PictureRef, bytes]:
    """Every picture as it is encoded.

    Raises:
        DpnError: one cannot be read, or its cell is empty.
    """
    inline = {picture: picture.data for picture in references if picture.data}
    files = [picture for picture in references if picture.uri and not picture.column]
    with ThreadPoolExecutor(_READERS) as pool:
        of_files = dict(zip(files, pool.map(lambda picture: read_bytes(picture.uri), files), strict=True))
    return inline | of_files | dict(_of_cells([picture for picture in references if picture.column]))


def decode(data: bytes, reference: PictureRef) -> Picture:
    """An RGB picture.

    Raises:
        DpnError: it is no picture, is cut short, or has too many pixels to be decoded safely.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Picture(hashlib.sha256(data).hexdigest()[:16], image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise DpnError(f"{place_of(reference)}: {str(error).partition(',')[0]}; store it at a smaller size") from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        # Of what it cannot identify, Pillow only says which Python object it was given.
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise DpnError(f"{place_of(reference)}: not a picture that can be decoded{reason}") from error


def place_of(reference: PictureRef) -> str:
    """Where a picture is, for people."""
    if reference.column:
        return f"{reference.uri}, row {reference.row}, column {reference.column}"
    return reference.uri or "a picture inside the question file"


def _of_cells(references: Sequence[PictureRef]) -> Iterator[tuple[PictureRef, bytes]]:
    wanted: dict[tuple[str, str], list[int]] = {}
    for picture in references:
        wanted.setdefault((picture.uri, picture.column), []).append(picture.row)
    cells = {place: read_cells(*place, rows) for place, rows in wanted.items()}
    for picture in references:
        yield picture, _encoded(cells[picture.uri, picture.column].get(picture.row), picture)


def _encoded(cell: Any, reference: PictureRef) -> bytes:
    """Bytes of a cell: plain, in a record, or in a list of records."""
    item = cell[reference.item] if isinstance(cell, list) else cell
    data = item.get("bytes") if isinstance(item, Mapping) else item
    if not isinstance(data, bytes) or not data:
        raise DpnError(f"{place_of(reference)}: no picture there")
    return data
