"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO: expressions, each of which means one box of a picture, several or none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_model.objects.boxes import MAX_OBJECTS
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.boxes import nameable
from dpn_platform.data.convert.coco import file_name
from dpn_platform.data.convert.detection import TOO_MANY
from dpn_platform.data.convert.instances import Annotated, Id, Instances
from dpn_platform.data.convert.options import ConvertOptions, Progress, is_training
from dpn_platform.data.convert.plain_pickle import read_plain_pickle
from dpn_platform.data.convert.questions import BRIEFLY, is_askable, tidy
from dpn_platform.data.convert.raw_folder import RawFolder
from dpn_platform.data.convert.referring import Expression, Wording, referring_records
from dpn_platform.data.ingest.record_forms import keys_of, what_is
from dpn_platform.storage import exists, list_files, read_bytes

INSTANCES = "instances.json"
_FILE = re.compile(r"g?refs\(\w+\)\.(p|json)")
_SPLIT = re.compile(r"[A-Za-z0-9_.-]+")
#: reasons why an expression is left out
NO_BOX, ODD_TEXT = "expressions of boxes that are not there", "expressions that cannot be asked"
#: gRefCOCO's annotation of an expression that means nothing in its picture
_NOTHING = -1


@dataclass(frozen=True)
class _Reference:
    """What is said of boxes of a picture: texts by id, and the annotations that they mean."""

    texts: Mapping[str, str]
    annotations: tuple[int, ...]


#: by split, by picture
_References = dict[str, dict[Id, list[_Reference]]]


def convert(source: str, folder: RawFolder, options: ConvertOptions, on_progress: Progress) -> None:
    """Adds the splits that the expressions name (train, val, testA, testB, ...).

    The expressions are in memory as a whole: RefCOCO has 142,000.

    Args:
        source: the file of expressions, with `instances.json` beside it, or a folder with one of each.
        folder: what to write into.
        options: ask, turns, prefix.
        on_progress: called with (pictures done, pictures of the file).

    Raises:
        DpnError: no such files, a pickle that is not plain data, or entries that are not RefCOCO's.
    """
    uri = _file(source)
    references = _read(uri)
    for split in references:
        folder.begin(split)
    instances = Instances(f"{uri.rpartition('/')[0]}/{INSTANCES}", file_name)
    for done, found in enumerate(instances.pictures(folder.left_out), start=1):
        for split, of_pictures in references.items():
            said = of_pictures.pop(found.picture.id, [])
            for record in _records(split, found, said, folder, options):
                folder.add(split, record)
        on_progress(done, len(instances))
    without = [one for of_pictures in references.values() for said in of_pictures.values() for one in said]
    folder.left_out[NO_BOX] += sum(len(reference.texts) for reference in without)


def _file(source: str) -> str:
    if source.endswith((".p", ".json")):
        files = [source] if exists(source) else []
    else:
        files = [file for file in list_files(source, recursive=False) if _FILE.fullmatch(file.rpartition("/")[2])]
    if len(files) == 1:
        return files[0]
    told = ", ".join(file.rpartition("/")[2] for file in files) or "none"
    raise DpnError(f"{source}: wanted one file of expressions, refs(...).p or .json; found {told}: name one as SOURCE")


def _read(uri: str) -> _References:
    data = read_bytes(uri)
    try:
        entries = read_plain_pickle(data, uri) if uri.endswith(".p") else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DpnError(f"{uri}: not valid JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise DpnError(f"{uri}: holds {what_is(entries)}; wanted a list of expressions")
    references: _References = {}
    for number, entry in enumerate(entries):
        try:
            split, picture, reference = _reference(entry)
        except ValueError as error:
            raise DpnError(f"{uri}: entry {number}: {error}") from None
        references.setdefault(split, {}).setdefault(picture, []).append(reference)
    return references


def _reference(entry: Any) -> tuple[str, Id, _Reference]:
    wanted = "wanted split, image_id, ann_id and sentences of sent"
    if not isinstance(entry, Mapping):
        raise ValueError(f"{what_is(entry)}; {wanted}")
    split, picture, named = (entry.get(name) for name in ("split", "image_id", "ann_id"))
    sentences = _sentences(entry.get("sentences"))
    annotations = [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, int)]
    if not annotations or not isinstance(picture, int | str) or sentences is None:
        raise ValueError(f"the keys are {keys_of(entry)}; {wanted}")
    if not isinstance(split, str) or not _SPLIT.fullmatch(split):
        raise ValueError(f"its split is {what_is(split)}; wanted a name, such as train")
    texts: dict[str, str] = {}
    for number, sentence in enumerate(sentences):
        text = sentence.get("sent")
        if not isinstance(text, str):
            raise ValueError(f"sentence {number} is {what_is(text)}; {wanted}")
        if tidy(text) not in texts.values():
            texts[f"{entry.get('ref_id', picture)}-{sentence.get('sent_id', number)}"] = tidy(text)
    return split, picture, _Reference(texts, tuple(one for one in annotations if one != _NOTHING))


def _sentences(found: Any) -> list[Mapping[str, Any]] | None:
    is_list = isinstance(found, list) and all(isinstance(one, Mapping) for one in found)
    return found if is_list else None


def _records(
    split: str, found: Annotated, said: Sequence[_Reference], folder: RawFolder, options: ConvertOptions
) -> Iterator[dict[str, Any]]:
    """The records of a picture: all its boxes are shown, so that an expression has something to choose from."""
    places = {one: place for place, one in enumerate(found.ids) if not found.crowd[place]}
    sound = [reference for reference in said if all(one in places for one in reference.annotations)]
    folder.left_out[NO_BOX] += sum(len(one.texts) for one in said) - sum(len(one.texts) for one in sound)
    if said and len(places) > MAX_OBJECTS and is_training(split):
        folder.left_out[TOO_MANY] += 1
        return
    true = sorted(places.values())
    meant = [true.index(places[one]) for reference in sound for one in reference.annotations]
    shown = {true[place]: index for index, place in enumerate(nameable(found.boxes[true], meant).tolist())}
    expressions = []
    for reference in sound:
        indices = tuple(shown[places[one]] for one in reference.annotations if places[one] in shown)
        for identity, text in reference.texts.items():
            if is_askable(text):
                expressions.append(Expression(identity, text, indices))
            else:
                folder.left_out[ODD_TEXT] += 1
    seen = {"image": options.path(found.picture.path), "boxes": found.boxes[list(shown)].tolist()}
    wording = Wording(options.ask or ("detect",), BRIEFLY, options.turns)
    yield from referring_records(split, str(found.picture.id), seen, expressions, wording)
