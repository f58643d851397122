"""A JSON object of long lists (COCO's `images`, `annotations`, `categories`) as a stream of their items."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.sources import MAX_RECORD_BYTES, read_chunks

_SHOWN_CHARACTERS = 40
_BEHIND_VALUES = (",", "]", "}", ":", " ", "\t", "\r", "\n")


def table_items(uri: str, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """(name of the list, item) for every item of these lists of a JSON object, in the file's order.

    What the object holds beside them is passed over. Bytes that are not UTF-8 survive as lone surrogates.

    Raises:
        DpnError: missing, no JSON object, one of the lists is no list, or an item is beyond 64 MiB.
    """
    text = _Text(uri)
    text.expect("{", f"expected an object of lists ({', '.join(names)})")
    while text.following() != "}":
        name = text.value("a name")
        if not isinstance(name, str):
            raise DpnError(f"{uri}: not valid JSON (a name in quotes is wanted, found {name!r})")
        text.expect(":", f"a colon is wanted behind {name!r}")
        if text.following() == "[":
            yield from ((name, item) for item in _items(text, name) if name in names)
        else:
            value = text.value(f"'{name}'")
            if name in names:
                raise DpnError(f"{uri}: '{name}' is {type(value).__name__}; wanted a list")
        if text.following() != "}":
            text.expect(",", f"a comma or the end is wanted behind '{name}'")


def _items(text: _Text, name: str) -> Iterator[Any]:
    text.expect("[", "")
    number = 0
    while text.following() != "]":
        yield text.value(f"item {number} of '{name}'")
        number += 1
        if text.following() != "]":
            text.expect(",", f"a comma or the end is wanted behind item {number - 1} of '{name}'")
    text.expect("]", "")


class _Text:
    """The text of a file, of which a piece is in memory, and a place in it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._chunks = read_chunks(uri)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._scan = json.JSONDecoder().raw_decode
        self._buffer, self._place = "", 0

    def following(self) -> str:
        """The next character that is no blank; an empty text at the end of the file."""
        while True:
            while self._buffer[self._place : self._place + 1].isspace():
                self._place += 1
            if self._place < len(self._buffer) or not self._read_on():
                return self._buffer[self._place : self._place + 1]

    def expect(self, character: str, wanted: str) -> None:
        """Goes behind this character."""
        if self.following() != character:
            found = self._buffer[self._place : self._place + _SHOWN_CHARACTERS] or "the end of the file"
            raise DpnError(f"{self._uri}: not valid JSON ({wanted}; found {found!r})")
        self._place += 1

    def value(self, what: str) -> Any:
        """Goes behind a JSON value, and returns it."""
        self.following()
        while True:
            try:
                value, end = self._scan(self._buffer, self._place)
            except (ValueError, RecursionError):
                value, end = None, None
            # A value is whole once what follows it is in sight: a number may go on in the next piece.
            is_whole = end is not None and self._buffer[end : end + 1] in _BEHIND_VALUES
            if is_whole or len(self._buffer) - self._place > MAX_RECORD_BYTES or not self._read_on():
                if end is None:
                    raise DpnError(f"{self._uri}: not valid JSON ({what} breaks off, is malformed or beyond 64 MiB)")
                self._place = end
                return value

    def _read_on(self) -> bool:
        """Takes in another piece of the file, and lets go of what is behind the place; False at its end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._buffer, self._place = self._buffer[self._place :] + self._decode(chunk), 0
        return True
