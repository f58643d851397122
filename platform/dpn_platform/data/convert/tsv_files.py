"""Which files belong together: annotations in a TSV, their index, and a TSV of pictures, whole or in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.sources import read_lines
from dpn_platform.storage import exists, list_files, list_sizes

INDEX_SUFFIX = ".lineidx"
_ANNOTATIONS = re.compile(r".*annotations?\.tsv")
_PICTURES = re.compile(r"(?P<stem>.*?)[._]images?(?:_part_(?P<part>[0-9]+))?\.tsv")


@dataclass(frozen=True)
class TsvFiles:
    """Files of one set.

    Attributes:
        annotations: of rows `offset, tab, JSON`.
        pictures: of rows `key, tab, base64`, in the order in which offsets run over them.
        rows: of annotations, by their index; 0 where there is none.
    """

    annotations: str
    pictures: tuple[str, ...]
    rows: int


def tsv_files(source: str, pictures: Sequence[str] = ()) -> TsvFiles:
    """Finds them.

    Args:
        source: URI of the annotations, or of a folder with one such file.
        pictures: where the pictures are, if not beside the annotations.

    Raises:
        DpnError: none or several are there, a part is missing, or the annotations are cut short.
    """
    annotations = _only_annotations(source)
    missing = [uri for uri in pictures if not exists(uri)]
    if missing:
        raise DpnError(f"--images {missing[0]}: there is no such file")
    return TsvFiles(annotations, tuple(pictures) or _beside(annotations), _indexed_rows(annotations))


def _only_annotations(source: str) -> str:
    if source.endswith(".tsv"):
        found = [source] if exists(source) else []
    else:
        found = [uri for uri in list_files(source, recursive=False) if _ANNOTATIONS.fullmatch(_name(uri))]
    if len(found) == 1:
        return found[0]
    told = ", ".join(map(_name, found)) or "none"
    raise DpnError(f"{source}: wanted one file of annotations (*annotations.tsv), found {told}; name one as SOURCE")


def _beside(annotations: str) -> tuple[str, ...]:
    """The pictures in the same folder whose name begins like that of the annotations."""
    folder, _, name = annotations.rpartition("/")
    sets: dict[str, dict[int, str]] = {}
    for stem, part, uri in _pictures_in(folder):
        if name.startswith(stem):
            sets.setdefault(stem, {})[part] = uri
    if len(sets) != 1:
        told = "no" if not sets else "several"
        raise DpnError(f"{annotations}: {told} pictures beside it (*image.tsv, *image_part_0.tsv, ...); use --images")
    ((stem, parts),) = sets.items()
    gap = next((part for part in range(max(parts) + 1) if part not in parts), None)
    if gap is not None:
        raise DpnError(
            f"{folder}: part {gap} of {stem}'s pictures is missing; there are {', '.join(map(_name, parts.values()))}"
        )
    return tuple(parts[part] for part in sorted(parts))


def _pictures_in(folder: str) -> Iterator[tuple[str, int, str]]:
    """(what the name begins with, number of the part, URI); a file that is whole is part 0."""
    for uri in list_files(folder, ".tsv", recursive=False):
        if (match := _PICTURES.fullmatch(_name(uri))) is not None:
            yield match["stem"], int(match["part"] or 0), uri


def _indexed_rows(annotations: str) -> int:
    index = annotations + INDEX_SUFFIX
    if not exists(index):
        return 0
    rows, last = 0, b"0"
    for line in read_lines(index):
        rows, last = rows + 1, line
    size = list_sizes(annotations.rpartition("/")[0], recursive=False)[annotations]
    if not last.isdigit() or int(last) >= size:
        told = f"its last row begins at {last[:20].decode(errors='replace')} by {_name(index)}"
        raise DpnError(f"{annotations}: has {size} bytes, and {told}; is it whole?")
    return rows


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
