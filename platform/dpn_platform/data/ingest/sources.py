"""Raw data sets: annotation files (JSON lists, JSON lines or CSV) and the folders their images lie in.

Files are read as a stream, one record at a time, so that the text of a whole set is never in memory.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.csv_records import CSV_SUFFIXES, csv_records
from dpn_platform.storage import MissingObjectError, exists, list_files, open_uri, require_bucket

LINES_SUFFIXES = (".jsonl", ".ndjson")
DEFAULT_SPLIT = "train"
MAX_RECORD_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_WHITESPACE = re.compile(r"\s*")
_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class RawSource:
    """Where a raw set lies.

    Attributes:
        name: what messages and the manifest call it.
        annotations: (split, file) in the order in which the files are read; files of one split are joined.
        image_roots: folders that `image` paths are relative to, tried in this order.
        divided: files that stand for several splits: their records say which they belong to (see `splitting`).
        hold_out: share of the pictures of `train` that make up `test`; 0 where that is not asked for.
    """

    name: str
    annotations: tuple[tuple[str, str], ...]
    image_roots: tuple[str, ...]
    divided: tuple[str, ...] = ()
    hold_out: float = 0.0

    @property
    def splits(self) -> list[str]:
        """Names of the splits, sorted."""
        return sorted({split for split, _ in self.annotations})

    def files(self, split: str) -> list[str]:
        """Annotation files of one split, in order."""
        return [uri for name, uri in self.annotations if name == split]


def folder_source(uri: str, splits: Sequence[str] | None = None, images: Sequence[str] = ()) -> RawSource:
    """The raw set in a folder: `{split}.json`, `.jsonl` or `.csv`, and images below it (or below `images`).

    Raises:
        DpnError: the folder holds no such file, or one split twice, or an image root is missing.
    """
    require_bucket(uri)
    found: dict[str, str] = {}
    for file in list_files(uri, recursive=False):
        split, dot, suffix = file.rpartition("/")[2].rpartition(".")
        if split.startswith("."):  # Finder's notes (._train.json) and other hidden files are no data
            continue
        if (
            f".{suffix}" not in (".json", *LINES_SUFFIXES, *CSV_SUFFIXES)
            or not dot
            or (splits is not None and split not in splits)
        ):
            continue
        if split in found:
            raise DpnError(f"{uri}: split {split} is there twice ({found[split]}, {file}); use --annotations to choose")
        found[split] = file
    missing = [split for split in splits or () if split not in found]
    if missing or not found:
        what = f"no {', '.join(missing)}.json" if missing else "no raw data set"
        raise DpnError(
            f"{uri}: {what} there; expected train.json (a list of records), train.jsonl or train.csv, and images"
        )
    return RawSource(open_uri(uri).uri, tuple(sorted(found.items())), _roots(images or [uri], must_exist=bool(images)))


def file_source(annotations: Sequence[str], images: Sequence[str] = ()) -> RawSource:
    """A raw set named file by file.

    Args:
        annotations: `file` or `split=file`; without a name it belongs to split "train".
        images: image roots; default: the folders of the annotation files.

    Raises:
        DpnError: a file or an image root is missing, or a file is named twice for one split.
    """
    named = []
    for item in annotations:
        match = _NAMED.fullmatch(item)
        split, address = match.groups() if match else (DEFAULT_SPLIT, item)
        entry = (split, open_uri(address).uri)
        if entry in named:
            raise DpnError(f"--annotations {item}: named twice for split {split}")
        if not exists(entry[1]):
            raise DpnError(f"--annotations {item}: there is no such file")
        named.append(entry)
    folders = list(dict.fromkeys(uri.rpartition("/")[0] for _, uri in named))
    return RawSource(named[0][1], tuple(named), _roots(images or folders, must_exist=bool(images)))


def _roots(images: Sequence[str], *, must_exist: bool) -> tuple[str, ...]:
    for root in images if must_exist else ():
        if not exists(root):
            raise DpnError(f"--images {root}: there is no such folder")
        if open_uri(root).filesystem.get_file_info(open_uri(root).path).is_file:
            raise DpnError(f"--images {root}: is a file; the folder with the pictures is wanted")
    return tuple(open_uri(root).uri for root in images)


def iter_records(uri: str) -> Iterator[bytes]:
    """The JSON text of every record of an annotation file, in order.

    A line of a JSON-lines file is passed on as it is, whatever it holds; a JSON list must be well-formed, for
    nothing can be told apart behind a fault. Bytes that are not UTF-8 pass through.

    Raises:
        DpnError: missing, unreadable, not a JSON list, no CSV with the columns wanted, or a record beyond 64 MiB.
    """
    if uri.lower().endswith(LINES_SUFFIXES):
        return read_lines(uri)
    chunks = read_chunks(uri)
    return csv_records(chunks, uri) if uri.lower().endswith(CSV_SUFFIXES) else _list_items(chunks, uri)


def read_chunks(uri: str) -> Iterator[bytes]:
    """A file in pieces, in order; nothing is read before the first is asked for.

    Raises:
        DpnError: missing or unreadable.
    """
    location = open_uri(uri)
    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise MissingObjectError(f"cannot read {location.uri}: nothing is there") from error
    except OSError as error:
        raise DpnError(f"cannot read {location.uri}: {' '.join(str(error).split())[:300]}") from error


def read_lines(uri: str) -> Iterator[bytes]:
    """The lines of a file that are not empty, without blanks around them.

    Raises:
        DpnError: as `read_chunks`; a line of more than 64 MiB.
    """
    rest = b""
    for chunk in read_chunks(uri):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_RECORD_BYTES:
            raise DpnError(f"{uri}: a line of more than {MAX_RECORD_BYTES >> 20} MiB; expected one record per line")
        yield from filter(None, map(_stripped, lines))
    yield from filter(None, [_stripped(rest)])


def _stripped(line: bytes) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8).strip()


def _list_items(chunks: Iterator[bytes], uri: str) -> Iterator[bytes]:
    """Items of a JSON list; a value counts as complete once the comma or bracket behind it is in sight."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    buffer, number, is_open = "", 0, False
    for chunk in chunks:
        buffer += decode(chunk)
        if not is_open:
            buffer = buffer.removeprefix("\ufeff").lstrip()
            if not buffer:
                continue
            if buffer[0] != "[":
                found = f"it begins with {buffer[:40]!r}"
                raise DpnError(f"{uri}: expected a list of records, {found}; JSON lines must be named .jsonl")
            buffer, is_open = buffer[1:], True
        items, buffer, is_closed = _complete_items(buffer)
        yield from (item.encode("utf-8", "surrogateescape") for item in items)
        number += len(items)
        if is_closed:
            if buffer.strip() or any(chunk.strip() for chunk in chunks):
                raise DpnError(f"{uri}: not valid JSON (something follows the end of the list)")
            return
        if len(buffer) > MAX_RECORD_BYTES:
            break
    where = f"after record {number}" if number else "in its first record"
    raise DpnError(f"{uri}: not valid JSON ({where} the list breaks off or is malformed)")


def _complete_items(text: str) -> tuple[list[str], str, bool]:
    """(items, the rest, whether the list has ended)."""
    items: list[str] = []
    position = 0
    decoder = json.JSONDecoder()
    while True:
        start = _after_space(text, position)
        if text.startswith("]", start) and (not items or text[position - 1] != ","):
            return items, text[start + 1 :], True
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return items, text[position:], False
        behind = _after_space(text, end)
        if not text.startswith((",", "]"), behind):
            return items, text[position:], False
        items.append(text[start:end])
        position = behind + text.startswith(",", behind)


def _after_space(text: str, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position
