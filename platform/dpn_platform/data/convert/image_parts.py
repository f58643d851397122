"""Pictures in a TSV (key, tab, base64) by the offset of their row; its parts are read as if they were one file."""

from __future__ import annotations

import base64
import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.sources import MAX_RECORD_BYTES
from dpn_platform.storage import Location, open_uri, with_retries

#: what a photograph takes, as text; longer rows take several reads
_BLOCK_BYTES = 512 * 1024
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp"}
_OTHER_ENDING = "img"


@dataclass(frozen=True)
class StoredPicture:
    """A picture's file, its size (width, height) in pixels, and the ending that its format has."""

    data: bytes
    size: tuple[int, int]
    ending: str


class ImageParts:
    """Random access to the rows; may be shared by threads.

    Args:
        uris: the parts, in order.

    Raises:
        DpnError: one is missing.
    """

    def __init__(self, uris: Sequence[str]) -> None:
        self._parts = [(location := open_uri(uri), with_retries("read", location, _opening(location))) for uri in uris]
        self._starts = [0]
        for _, file in self._parts:
            self._starts.append(self._starts[-1] + int(file.size()))

    def picture(self, offset: int) -> StoredPicture | None:
        """The picture whose row begins at this byte of all parts together; None where it cannot be decoded.

        Raises:
            DpnError: no row begins there: a part is missing, or they are in another order.
        """
        _, tab, text = self._row(offset).partition(b"\t")
        if not tab:
            raise self._no_row(offset, "there is no tab in it")
        text = text.strip()
        if text.startswith(b"b'"):  # older files have it as Python prints bytes
            text = text[2:-1]
        try:
            data = base64.b64decode(text, validate=True)
            with Image.open(io.BytesIO(data)) as image:
                return StoredPicture(data, image.size, _ENDINGS.get(image.format or "", _OTHER_ENDING))
        except Exception:  # decoders raise whatever their reading of odd bytes leads to
            return None

    def _row(self, offset: int) -> bytes:
        if not 0 <= offset < self._starts[-1]:
            raise self._no_row(offset, f"they have {self._starts[-1]} bytes")
        pieces: list[bytes] = []
        place = max(offset - 1, 0)
        while place < self._starts[-1]:
            block = self._read(place)
            place += len(block)
            if not pieces and offset:  # with the byte before it, which must end a row
                if not block.startswith(b"\n"):
                    raise self._no_row(offset, "it is in the middle of one")
                block = block[1:]
            piece, newline, _ = block.partition(b"\n")
            pieces.append(piece)
            if newline:
                break
            if place - offset > MAX_RECORD_BYTES:
                raise self._no_row(offset, f"it does not end within {MAX_RECORD_BYTES >> 20} MiB")
        return b"".join(pieces)

    def _read(self, place: int) -> bytes:
        """What follows a place, to the end of its part at most."""
        number = bisect_right(self._starts, place) - 1
        location, file = self._parts[number]
        start = place - self._starts[number]
        size = min(_BLOCK_BYTES, self._starts[number + 1] - place)

        def read() -> bytes:
            block = bytes(file.read_at(size, start))
            if len(block) < size:
                raise OSError(f"truncated: {len(block)} of {size} bytes arrived")
            return block

        return with_retries("read", location, read)

    def _no_row(self, offset: int, why: str) -> DpnError:
        parts = ", ".join(location.uri.rpartition("/")[2] for location, _ in self._parts)
        return DpnError(
            f"no row of a picture begins at byte {offset} of {parts}: {why}; give all parts, in order, by --images"
        )


def _opening(location: Location) -> Callable[[], Any]:
    return lambda: location.filesystem.open_input_file(location.path)
