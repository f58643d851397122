"""Which picture a record shows: shards know records by their ids, and a file of proposals may name pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.policy import RejectedError
from dpn_platform.data.ingest.sources import iter_records
from dpn_platform.data.ingest.validation import parse_record
from dpn_platform.data.published.manifest import Manifest


def names_pictures(file: str) -> bool:
    """Whether a file of proposals on this machine names pictures, judged by its first line."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        fields = json.loads(first)
    except ValueError:
        return False  # whoever opens the file refuses it, with the line
    return isinstance(fields, dict) and fields.get("image") is not None


def pictures_of_records(manifest: Manifest) -> Mapping[str, str]:
    """Path of the picture by record id, from the annotation files that the set was made of.

    Raises:
        DpnError: one of them cannot be read any more, or two records of one id show different pictures.
    """
    found: dict[str, str] = {}
    for uri in dict.fromkeys(file.uri for split in manifest.splits.values() for file in split.annotations):
        try:
            for raw in iter_records(uri):
                _note(raw, found, uri)
        except DpnError as error:
            told = "the file names pictures, which shards know by records alone; name records by id instead"
            raise DpnError(f"{error} ({told})") from error
    return found


def _note(raw: bytes, found: dict[str, str], uri: str) -> None:
    try:
        record: Any = parse_record(raw)
    except RejectedError:
        return
    image = record.get("image") if isinstance(record, dict) else None
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if not isinstance(image, str) or record.get("id") is None:
        return
    name, path = str(record["id"]), image.removeprefix("./")
    if found.setdefault(name, path) != path:
        raise DpnError(f"{uri}: records of the id {name} show {found[name]} and {path}")
