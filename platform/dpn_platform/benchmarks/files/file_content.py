"""A benchmark file's bytes and text, unpacked where it is gzip, and the files of a folder without what systems add."""

from __future__ import annotations

import gzip
import zlib

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import list_files, open_uri, read_bytes

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: how other formats begin, for the line that refuses them as text
_OTHERS = (
    (b"PK\x03\x04", "a zip archive or a workbook; give the file inside, or end the name of a workbook in .xlsx"),
    (b"PAR1", "parquet; end its name in .parquet"),
    (b"\x00\x05\x16\x07", "a note that macOS keeps beside a file; give the file itself"),
)


def suffix_of(uri: str) -> str:
    """The ending of a file's name in lower case, that of its content where it is packed: `a.JSON.gz` -> `.json`."""
    name = uri.rpartition("/")[2].lower().removesuffix(".gz")
    return f".{name.rpartition('.')[2]}" if "." in name else ""


def read_content(uri: str) -> bytes:
    """The bytes of a file; gzip is told by its first bytes and unpacked.

    Raises:
        DpnError: nothing is there, or the archive is damaged.
    """
    data = read_bytes(uri)
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DpnError(f"{uri}: the gzip archive is damaged ({error})") from error


def read_text(uri: str) -> str:
    """The text of a file in UTF-8, with or without its mark.

    Raises:
        DpnError: as `read_content`, or it is something else.
    """
    data = read_content(uri)
    for start, what in _OTHERS:
        if data.startswith(start):
            raise DpnError(f"{uri}: is no text but {what}")
    if data.startswith(_UTF16):
        raise DpnError(f"{uri}: is UTF-16 and not UTF-8 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DpnError(f"{uri}: is not UTF-8 text ({error.reason} at byte {error.start})") from error


def data_files(uri: str, *suffixes: str, recursive: bool = True) -> list[str]:
    """The files of a folder that end in one of `suffixes`, packed or not; none: all.

    Hidden files (`._name` and `.DS_Store` of macOS among them) and what lies below `__MACOSX` are no data.
    """
    start = len(open_uri(uri).uri)
    return [
        file
        for file in list_files(uri, recursive=recursive)
        if (not suffixes or suffix_of(file) in suffixes)
        and not any(part.startswith(".") or part == "__MACOSX" for part in file[start:].split("/"))
    ]
