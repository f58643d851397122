"""LVIS: instances of many categories, of which a picture tells only some: which are surely absent, which incomplete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.coco import file_name, instance_files
from dpn_platform.data.convert.detection import DetectionRecords, Known
from dpn_platform.data.convert.instances import Annotated, Id, Instances
from dpn_platform.data.convert.options import ConvertOptions, Progress
from dpn_platform.data.convert.questions import tidy
from dpn_platform.data.convert.raw_folder import RawFolder

_FILES = "lvis_*.json"
_ABSENT, _INCOMPLETE = "neg_category_ids", "not_exhaustive_category_ids"
#: of a picture's address in version 1: split and file, as `train2017/000000000009.jpg`
_ADDRESS_PARTS = 2


def convert(source: str, folder: RawFolder, options: ConvertOptions, on_progress: Progress) -> None:
    """Adds a split for every file of instances.

    A record's truth also says `frequencies` (r, c or f of its categories), `absent` and `incomplete` (names).

    Args:
        source: a file, or a folder that holds some (`lvis_*.json`), itself or in `annotations/`.
        folder: what to write into.
        options: split, ask, absent, seed, turns, prefix.
        on_progress: called with (pictures done, pictures of the file).

    Raises:
        DpnError: no such files, or they are not LVIS's.
    """
    for split, uri in instance_files(source, _FILES, options.split):
        folder.begin(split)
        instances = Instances(uri, _path, kept=(_ABSENT, _INCOMPLETE))
        names = {identity: _name(str(entry["name"])) for identity, entry in instances.categories.items()}
        frequencies = {names[identity]: entry.get("frequency") for identity, entry in instances.categories.items()}
        records = DetectionRecords(split, names, options, folder.left_out)
        for done, found in enumerate(instances.pictures(folder.left_out), start=1):
            for record in records.of_picture(found, _known(uri, found, names, frequencies)):
                folder.add(split, record)
            on_progress(done, len(instances))


def _known(uri: str, found: Annotated, names: Mapping[Id, str], frequencies: Mapping[str, Any]) -> Known:
    absent, incomplete = (_listed(uri, found, name, names) for name in (_ABSENT, _INCOMPLETE))
    told = sorted({names[category] for category in (*found.categories, *absent)})
    truth = {
        "frequencies": {name: frequencies[name] for name in told if frequencies[name] is not None},
        "absent": [names[category] for category in absent],
        "incomplete": [names[category] for category in incomplete],
    }
    return Known(absent, frozenset(incomplete), truth)


def _listed(uri: str, found: Annotated, field: str, names: Mapping[Id, str]) -> list[Id]:
    listed = found.picture.fields.get(field)
    if not isinstance(listed, list) or not all(isinstance(one, int) and one in names for one in listed):
        raise DpnError(
            f"{uri}: picture {found.picture.id} has no {field} of its categories; a file without them is read as coco"
        )
    return list(listed)


def _path(entry: Mapping[str, Any]) -> str | None:
    """`file_name` (version 0.5), or the end of the address (version 1)."""
    address = entry.get("coco_url")
    if file_name(entry) is None and isinstance(address, str) and address:
        return "/".join(address.split("/")[-_ADDRESS_PARTS:])
    return file_name(entry)


def _name(name: str) -> str:
    """`aerosol_can` as people write it."""
    return tidy(name.replace("_", " "))
