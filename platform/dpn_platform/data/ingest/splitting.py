"""Which records of an annotation file make up a split: all, those that name it, or a share held out by picture."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.policy import RejectedError
from dpn_platform.data.ingest.record_forms import is_plain
from dpn_platform.data.ingest.sources import DEFAULT_SPLIT, RawSource, file_source, folder_source, iter_records
from dpn_platform.data.ingest.validation import parse_record

#: the key of a plain record that names its split
SPLIT = "split"
#: what `data.eval_split` is unless the user says otherwise
HELD_OUT_SPLIT = "test"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def open_raw(
    source: str | None, annotations: Sequence[str] = (), images: Sequence[str] = (), hold_out: float = 0.0
) -> RawSource:
    """A raw set as it is given: a folder, or files of annotations in its place; divided as its records say.

    Raises:
        DpnError: nothing is there, or it cannot be divided so.
    """
    raw = folder_source(source, images=images) if source else file_source(annotations, images)
    return with_hold_out(with_named_splits(raw), hold_out)


def with_named_splits(raw: RawSource) -> RawSource:
    """The source with a file of plain records that name their splits (a column `split`) divided among these.

    Raises:
        DpnError: such a file was given for another split than train, or a name is none.
    """
    annotations: list[tuple[str, str]] = []
    divided = []
    for split, uri in raw.annotations:
        first = _parsed(next(iter_records(uri), b""))
        if not (is_plain(first) and SPLIT in first):
            annotations.append((split, uri))
            continue
        names = sorted({_split_of(_parsed(record)) for record in iter_records(uri)})
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        if wrong or split != DEFAULT_SPLIT:
            told = f"'{wrong[0][:80]}' is no name" if wrong else f"it cannot be given as {split}"
            raise DpnError(f"{uri}: its records name their splits ({', '.join(names)[:200]}); {told}")
        annotations += [(name, uri) for name in names]
        divided.append(uri)
    return replace(raw, annotations=tuple(annotations), divided=tuple(divided))


def with_hold_out(raw: RawSource, share: float) -> RawSource:
    """The source with a share of the pictures of `train`, and all questions about them, as the split `test`.

    Which pictures these are follows from their paths alone: more records do not change it.

    Raises:
        DpnError: the source has a test split, or no train split.
    """
    if not share:
        return raw
    if HELD_OUT_SPLIT in raw.splits or DEFAULT_SPLIT not in raw.splits:
        raise DpnError(
            f"--hold-out {share:g} makes a split '{HELD_OUT_SPLIT}' of '{DEFAULT_SPLIT}'; this source has the splits: "
            f"{', '.join(raw.splits)}"
        )
    held_out = tuple((HELD_OUT_SPLIT, uri) for uri in raw.files(DEFAULT_SPLIT))
    return replace(raw, annotations=raw.annotations + held_out, hold_out=share)


def split_records(raw: RawSource, split: str, uri: str) -> Iterator[bytes]:
    """The records of one file that belong to a split, in order; those that cannot be read stay in train.

    Raises:
        DpnError: as `sources.iter_records`; a share is to be held out and a record has several pictures.
    """
    is_divided = uri in raw.divided
    is_shared = bool(raw.hold_out) and split in (DEFAULT_SPLIT, HELD_OUT_SPLIT)
    for raw_record in iter_records(uri):
        record = _parsed(raw_record) if is_divided or is_shared else None
        wanted = DEFAULT_SPLIT if is_shared else split
        if is_divided and _split_of(record) != wanted:
            continue
        if is_shared and _is_held_out(record, raw.hold_out, uri) != (split == HELD_OUT_SPLIT):
            continue
        yield raw_record


def _parsed(record: bytes) -> Any:
    try:
        return parse_record(record)
    except RejectedError:
        return None


def _split_of(record: Any) -> str:
    return str(record.get(SPLIT) or DEFAULT_SPLIT) if isinstance(record, dict) else DEFAULT_SPLIT


def _is_held_out(record: Any, share: float, uri: str) -> bool:
    """By a hash of the picture's path, or of the text where there is none."""
    if not isinstance(record, dict):
        return False
    image = record.get("image")
    if isinstance(image, list):
        if len(image) > 1:
            raise DpnError(
                f"{uri}: a record has {len(image)} pictures, which --hold-out cannot keep apart; name the splits by "
                f"--annotations {DEFAULT_SPLIT}=FILE {HELD_OUT_SPLIT}=FILE"
            )
        image = image[0] if image else None
    text = [record.get("conversations"), record.get("question")]
    key = image.removeprefix("./") if isinstance(image, str) and image else json.dumps(text, sort_keys=True)
    digest = hashlib.sha256(f"hold-out {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
