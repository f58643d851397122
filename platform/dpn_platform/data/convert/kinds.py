"""The kinds of sources there are, and what each may be told. Light: the command line's help shows it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.options import ConvertOptions

_EVERYWHERE = ("ask", "turns")


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        meaning: what SOURCE is.
        options: fields of `ConvertOptions` that it uses.
        note: what whoever converts it should know.
    """

    meaning: str
    options: tuple[str, ...]
    note: str = ""


KINDS: dict[str, Kind] = {
    "coco": Kind(
        "instances_*.json, or a folder with some: COCO, Objects365, and other sets in that form",
        (*_EVERYWHERE, "split", "absent", "seed", "prefix"),
    ),
    "lvis": Kind("lvis_*.json, or a folder with some", (*_EVERYWHERE, "split", "absent", "seed", "prefix")),
    "refcoco": Kind(
        "refs(*).p or .json of RefCOCO, RefCOCO+, RefCOCOg or gRefCOCO beside instances.json, or their folder",
        (*_EVERYWHERE, "prefix"),
    ),
    "rexverse": Kind(
        "annotation TSV of Rexverse-2M, or of another set of its group, beside its image TSV; or their folder",
        (*_EVERYWHERE, "split", "images", "boxes", "text"),
        "Rexverse-2M's card carries no licence, and its group's code is for non-commercial research: whether you may "
        "use it is yours to clear",
    ),
}


def used_options(kind: str, options: ConvertOptions) -> dict[str, object]:
    """The options that differ from the defaults.

    Raises:
        DpnError: no such kind, or an option that it does not use.
    """
    if kind not in KINDS:
        raise DpnError(f"there is no kind '{kind}' of sources; allowed are {', '.join(KINDS)}")
    told = {field.name: getattr(options, field.name) for field in fields(options)}
    given = {name: value for name, value in told.items() if value != getattr(ConvertOptions(), name)}
    for name in given:
        if name not in KINDS[kind].options:
            users = ", ".join(other for other, one in KINDS.items() if name in one.options)
            raise DpnError(f"--{name} says nothing of {kind}; it is for {users}")
    return given
