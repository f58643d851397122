"""What every method's settings share: one frozen dataclass a method, checked on creation, with ranges and help.

Nothing here imports torch: whoever reads a configuration reads these.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

Kernel = tuple[int, int]
Positions = Literal["contiguous", "keep"]

_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (lambda value, bound: value >= bound, "or above"),
    "gt": (lambda value, bound: value > bound, "above"),
    "le": (lambda value, bound: value <= bound, "at most"),
    "lt": (lambda value, bound: value < bound, "below"),
}


def setting(
    default: Any, text: str, *, check: Callable[[Any], Any] | None = None, per_site: str = "", **bounds: float
) -> Any:
    """A field of a method's settings.

    Args:
        default: a class without arguments (a nested section) is made anew each time.
        text: one line for people.
        check: called with the value, or with every text of a list; it raises ValueError.
        per_site: of a list with one entry per site: the setting that it takes the place of.
        bounds: ge, gt, le, lt.
    """
    metadata = {"help": text, "check": check, "bounds": bounds, "per_site": per_site}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def keep_setting(
    default: float | None, text: str = "share of a picture's visual tokens that is kept; above 1, their number"
) -> Any:
    """The field `keep` of methods that keep some of a picture's tokens: a share, or above 1 a whole number."""
    return setting(default, text, check=_share_or_number, gt=0)


def _share_or_number(keep: float) -> None:
    if keep > 1 and keep != int(keep):
        raise ValueError(f"keep = {keep}; allowed: a share up to 1, or a whole number of tokens above it")


def kept_count(keep: float, tokens: int, rounding: Callable[[float], int] = round) -> int:
    """Tokens of one picture of `tokens` that `keep` leaves: at least one, never more than there are."""
    return max(1, min(tokens, rounding(keep * tokens) if keep <= 1 else int(keep)))


def parse_kernel(name: str) -> Kernel:
    """(height, width) of a kernel written like "1x2".

    Raises:
        ValueError: not of that form, or zero.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name)
    if match is None:
        raise ValueError(f"unknown kernel {name!r}; write height x width, for example 1x1, 1x2, 2x2")
    return int(match[1]), int(match[2])


_TYPES: dict[Any, dict[str, Any]] = {}


def types_of(settings: Any) -> dict[str, Any]:
    """Types of a settings class's fields."""
    if settings not in _TYPES:
        _TYPES[settings] = get_type_hints(settings)
    return _TYPES[settings]


def per_site_settings(settings: type) -> dict[str, str]:
    """Settings that hold one entry per site, each with the setting that it takes the place of."""
    return {each.name: each.metadata["per_site"] for each in fields(settings) if each.metadata.get("per_site")}


def check_settings(settings: Any, prefix: str = "") -> None:
    """Raise ValueError unless every value has its field's type, is one of the allowed, and lies in its range."""
    for each in fields(settings):
        name, value, kind = f"{prefix}{each.name}", getattr(settings, each.name), types_of(type(settings))[each.name]
        if not _fits(value, kind):
            choices = _choices(kind)
            raise ValueError(f"{name} = {value!r}; allowed: {', '.join(choices) if choices else _told(kind)}")
        if (check := each.metadata.get("check")) is not None:
            for text in _texts(value):
                check(text)
        if value is not None and each.metadata.get("bounds"):
            _check_bounds(name, value, each.metadata["bounds"])


def _check_bounds(name: str, value: Any, bounds: Mapping[str, float]) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if not all(_BOUNDS[kind][0](number, bound) for kind, bound in bounds.items()):
            allowed = " and ".join(
                f"{bound} {_BOUNDS[kind][1]}" if kind == "ge" else f"{_BOUNDS[kind][1]} {bound}"
                for kind, bound in bounds.items()
            )
            raise ValueError(f"{name} = {value}; it must be {allowed}")


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (UnionType, typing.Union):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        return all(_fits(item, inner[0]) for item in value) if inner[-1] is Ellipsis else len(value) == len(inner)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _choices(kind: Any) -> list[str]:
    return [str(item) for item in get_args(kind)] if get_origin(kind) is Literal else []


def _told(kind: Any) -> str:
    options = get_args(kind) if get_origin(kind) in (UnionType, typing.Union) else (kind,)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
    return " or ".join(
        names.get(option, "a list" if get_origin(option) is tuple else "a section") for option in options
    )


def _texts(value: Any) -> Sequence[Any]:
    if isinstance(value, tuple):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else [value]


def settings_from(owner: type[Any], values: Mapping[str, Any], name: str, prefix: str = "") -> Any:
    """An instance of a settings class from plain data; lists become tuples, mappings the nested section.

    Args:
        owner: the class.
        values: as YAML or JSON give them.
        name: of the method, for refusals.
        prefix: of the section, with its dot.

    Raises:
        ValueError: a key that the method does not have, or a value that a setting cannot take.
    """
    kinds, known = types_of(owner), {each.name for each in fields(owner)}
    unknown = [key for key in values if key not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean {prefix}{near[0]}?)" if near else ""
        allowed = ", ".join(f"{prefix}{each.name}" for each in fields(owner)) or "none"
        raise ValueError(f"{name} has no setting {prefix}{unknown[0]}{hint}; allowed: {allowed}")
    converted = {}
    for key, value in values.items():
        is_section = is_dataclass(kinds[key]) and isinstance(value, Mapping)
        converted[key] = (
            settings_from(kinds[key], value, name, f"{prefix}{key}.") if is_section else _with_tuples(value)
        )
    return owner(**converted)


def _with_tuples(value: Any) -> Any:
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class MethodSettings:
    """Base of all methods' settings. Equal settings are the same method."""

    #: as it is registered and written under `method.name`
    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def calibrates_dial(self) -> bool:
        """Whether a training with these settings leaves a calibrated budget dial."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, the name included."""
        return {"name": self.name, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; see `settings_from` for what is refused."""
        return settings_from(cls, {key: value for key, value in values.items() if key != "name"}, cls.name)


@dataclass(frozen=True)
class SitedSettings(MethodSettings):
    """Of a method that acts between layers.

    Attributes:
        sites: "after layer N", 1-based; 0 is before the first layer. None: 1/4, 1/2 and 3/4 of the depth.
        positions: "contiguous" renumbers after a reduction, "keep" keeps what the rows had (a merged row its first's).
    """

    sites: tuple[int, ...] | None = setting(None, "after these layers; default 1/4, 1/2, 3/4 of the depth", ge=0)
    positions: Positions = setting("contiguous", "rotary positions behind a reduction: renumbered, or kept")

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """Sites for a decoder of `num_layers`, ascending.

        Raises:
            ValueError: a site is repeated, or not in 0..num_layers - 1 (after the last layer nothing is saved).
        """
        sites = self.sites
        if sites is None:
            sites = tuple(round(num_layers * quarter / 4) for quarter in (1, 2, 3))
        bad = [site for site in sites if not 0 <= site < num_layers]
        if bad or len(set(sites)) != len(sites):
            what = f"{bad[0]} is out of range" if bad else "one is repeated"
            raise ValueError(f"sites = {list(sites)}: {what}; allowed: different layers from 0 to {num_layers - 1}")
        if not sites:
            raise ValueError("sites is empty; name at least one layer, or use method dense")
        return tuple(sorted(sites))

    def spread(self, name: str, num_layers: int) -> dict[int, Any]:
        """A setting that has one entry per site, in the order the sites were written in: entry by site, ascending.

        Raises:
            ValueError: sites that do not fit the decoder, or another number of entries.
        """
        layers, entries = self.resolve_sites(num_layers), getattr(self, name)
        as_written = self.sites or layers
        if len(entries) != len(layers):
            raise ValueError(f"{name} has {len(entries)} entries; sites = {list(as_written)} needs {len(layers)}")
        return {layer: entries[as_written.index(layer)] for layer in layers}
