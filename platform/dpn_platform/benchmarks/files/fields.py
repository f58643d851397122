"""What the fields of gold and answer records may hold: checked here once, so that scorers can rely on it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.sources import need_columns
from dpn_platform.config.errors import DpnError

_ID_COLUMNS = ("id", "question_id", "index")
_MOST_DIGITS = 18
# Bounded in length and in depth: a value that is nested a thousand deep can be shown too.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring = 2, 4, 4, 60

_Parts = Iterable[tuple[str, Any, "Kind"]]


@dataclass(frozen=True)
class Kind:
    """What a field may hold.

    Attributes:
        needed: how a refusal says it.
        fits: whether a value is of this kind, its parts aside.
        parts: of a value that fits: how each part is named behind the field, the part, and its kind.
    """

    needed: str
    fits: Callable[[Any], bool]
    parts: Callable[[Any], _Parts] = lambda value: ()


def list_of(kind: Kind, needed: str) -> Kind:
    """A list of one kind."""
    return Kind(
        needed,
        lambda value: isinstance(value, list | tuple),
        lambda value: ((f"[{place}]", item, kind) for place, item in enumerate(value)),
    )


def object_of(needed: str, **kinds: Kind) -> Kind:
    """An object with these keys."""
    return Kind(
        needed,
        lambda value: isinstance(value, Mapping),
        lambda value: ((f".{name}", value.get(name), kind) for name, kind in kinds.items()),
    )


def either(needed: str, *kinds: Kind) -> Kind:
    """The first of several kinds that fits."""
    return Kind(
        needed,
        lambda value: any(kind.fits(value) for kind in kinds),
        lambda value: next(kind.parts(value) for kind in kinds if kind.fits(value)),
    )


def one_of(*values: str) -> Kind:
    """One of a few texts."""
    return Kind(f"{', '.join(values[:-1])} or {values[-1]}", lambda value: isinstance(value, str) and value in values)


def optional(kind: Kind) -> Kind:
    """Of a kind, or nothing at all."""
    return either(f"{kind.needed} or null", Kind("null", lambda value: value is None), kind)


def whole_number(value: Any) -> int | None:
    """A value as a whole number from 0: digits in a text count, for some tables hold nothing else; None: it is none."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and value >= 0 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and not isinstance(value, bool)


ANYTHING = Kind("a value", lambda value: True)
TEXT = Kind("a text", lambda value: isinstance(value, str))
#: what an id, a label or an option may be
SCALAR = Kind("a text or a number", _is_scalar)
WHOLE = Kind("a whole number", lambda value: whole_number(value) is not None)


def check_fields(rows: Sequence[Row], uri: str, title: str, needed: Mapping[str, Kind], **more: Kind) -> None:
    """Refuses the first record that lacks a field, or has in it what cannot stand there.

    Args:
        rows: the records.
        uri: of their file.
        title: the benchmark's.
        needed: fields that every record has.
        more: fields that may be absent or null.

    Raises:
        DpnError: names file, record, field, value, and what is needed.
    """
    need_columns(list(rows), uri, title, *needed)
    kinds = {**needed, **{name: optional(kind) for name, kind in more.items()}}
    for place, row in enumerate(rows, start=1):
        for name, kind in kinds.items():
            if (found := _first_misfit(name, row.get(name), kind)) is not None:
                raise misfit(place_of(uri, place, row), *found)


def check_value(where: str, name: str, value: Any, kind: Kind) -> None:
    """Refuses one value that is not of a kind, or has in it what is not.

    Raises:
        DpnError: names the place, the field, the value, and what is needed.
    """
    if (found := _first_misfit(name, value, kind)) is not None:
        raise misfit(where, *found)


def place_of(uri: str, place: int, row: Row) -> str:
    """How a refusal names a record: its file, its place from 1, and its own id where it has one."""
    identity = next((row[column] for column in _ID_COLUMNS if _is_scalar(row.get(column))), None)
    return f"{uri}, record {place}" + ("" if identity is None else f" (id {identity})")


def misfit(where: str, name: str, value: Any, needed: str) -> DpnError:
    """The refusal of one value."""
    return DpnError(f"{where}: '{name}' is {shown_value(value)}; {needed} is needed")


def shown_value(value: Any) -> str:
    """A value for a message: short, however long or deep it is."""
    return "null" if value is None else _REPR.repr(value)


def _first_misfit(name: str, value: Any, kind: Kind) -> tuple[str, Any, str] | None:
    if not kind.fits(value):
        return name, value, kind.needed
    inside = (_first_misfit(name + suffix, item, part) for suffix, item, part in kind.parts(value))
    return next((found for found in inside if found is not None), None)
