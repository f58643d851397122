"""COCO's instances, and data sets in their form: every category of a picture has all its boxes, or is a crowd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.detection import DetectionRecords, Known
from dpn_platform.data.convert.instances import Instances
from dpn_platform.data.convert.options import ConvertOptions, Progress
from dpn_platform.data.convert.questions import tidy
from dpn_platform.data.convert.raw_folder import RawFolder
from dpn_platform.storage import exists, join_uri, list_files

_FILES = "instances_*.json"
#: lists of pictures without boxes, beside the others
_NO_BOXES = "image_info"
_SPLIT = re.compile(r"train|minival|val|test")


def convert(source: str, folder: RawFolder, options: ConvertOptions, on_progress: Progress) -> None:
    """Adds a split for every file of instances.

    Args:
        source: a file, or a folder that holds some (`instances_*.json`), itself or in `annotations/`.
        folder: what to write into.
        options: split, ask, absent, seed, turns, prefix.
        on_progress: called with (pictures done, pictures of the file).

    Raises:
        DpnError: no such files, or they are not COCO's.
    """
    for split, uri in instance_files(source, _FILES, options.split):
        folder.begin(split)
        instances = Instances(uri, file_name)
        names = {identity: tidy(str(entry["name"])) for identity, entry in instances.categories.items()}
        records = DetectionRecords(split, names, options, folder.left_out)
        for done, found in enumerate(instances.pictures(folder.left_out), start=1):
            here = set(found.categories)
            known = Known(absent=[category for category in names if category not in here] if options.absent else ())
            for record in records.of_picture(found, known):
                folder.add(split, record)
            on_progress(done, len(instances))


def file_name(entry: Mapping[str, Any]) -> str | None:
    """What a picture's file is called; None where its entry does not say."""
    name = entry.get("file_name")
    return name if isinstance(name, str) and name else None


def instance_files(source: str, pattern: str, split: str | None) -> list[tuple[str, str]]:
    """(split, URI) of every file to read.

    Raises:
        DpnError: none is there, a file's name does not tell its split, or two tell the same.
    """
    if source.endswith(".json"):
        files = [source]
    else:
        folders = (source, join_uri(source, "annotations"))
        files = [file for one in folders for file in list_files(one, ".json", recursive=False)]
        files = [file for file in files if fnmatch(name := file.rpartition("/")[2], pattern) and _NO_BOXES not in name]
    if not files or not all(map(exists, files)):
        raise DpnError(f"{source}: no such file, nor a folder with {pattern}")
    if split is not None and len(files) > 1:
        told = ", ".join(file.rpartition("/")[2] for file in files)
        raise DpnError(f"--split {split}: {source} holds several files ({told}); name one of them")
    named = [(split or _split_of(file), file) for file in files]
    if len({name for name, _ in named}) < len(named):
        raise DpnError(f"{source}: two files of one split ({', '.join(file for _, file in named)}); name one of them")
    return named


def _split_of(uri: str) -> str:
    found = _SPLIT.search(uri.rpartition("/")[2])
    if found is None:
        raise DpnError(f"{uri}: its name tells no split (train, val, ...); give it by --split")
    return found[0]
