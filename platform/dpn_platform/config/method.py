"""The method's section of an experiment: the settings of one registered method, as a typed section of the YAML.

Keys, ranges, defaults and help are those of the method's own dataclass (`dpn_model.methods`), which imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, Field, create_model, model_validator

from dpn_model.methods.registry import DEFAULT, EARLIER_KEYS, find_method, own_keys
from dpn_model.methods.settings import MethodSettings, types_of
from dpn_model.methods.spec import MethodSpec
from dpn_platform.config.section import Section


class MethodConfig(Section):
    """One method's settings. Sites are 1-based: 'after layer N'; 0 is before the first."""

    spec: ClassVar[MethodSpec]
    name: str = DEFAULT

    @property
    def settings(self) -> MethodSettings:
        """As the model takes them."""
        return self.spec.settings.from_dict(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _fits_together(self) -> MethodConfig:
        _ = self.settings  # raises what no single key can tell
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return method_config, (self.model_dump(mode="json"),)


@cache
def method_section(name: str) -> type[MethodConfig]:
    """The section of a registered method.

    Raises:
        ValueError: there is no such method.
    """
    spec = find_method(name)
    kinds: dict[str, Any] = {"name": (Literal[spec.name], spec.name), **_fields_of(spec.settings)}
    section = create_model(
        f"{spec.settings.__name__}Section", __base__=MethodConfig, __doc__=spec.settings.__doc__, **kinds
    )
    section.spec = spec
    return section


def method_config(values: Mapping[str, Any]) -> MethodConfig:
    """The section of plain values.

    Raises:
        ValueError: an unknown method.
        pydantic.ValidationError: a key or value that the method does not take.
    """
    return method_section(str(values.get("name", DEFAULT))).model_validate(dict(values))


def laid_over(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A method's plain values with some of them given anew.

    Where that names another method, what the two have in common and begin alike stays (sites, positions ...) and the
    rest goes: a control says what it is, and cannot drift apart from what it is compared with. A setting with another
    default means something else: a rival's sites and positions are its authors'.
    """
    name = given.get("name", before.get("name", DEFAULT))
    kept: Mapping[str, Any] = before
    if name != before.get("name", DEFAULT):
        try:
            kept = own_keys(before, find_method(name))
            former, new = (_defaults(one) for one in (str(before.get("name", DEFAULT)), name))
            kept = {key: value for key, value in kept.items() if former.get(key) == new.get(key)}
        except ValueError:  # told where the values are validated
            kept = {}
    return {**_merged(kept, given), "name": name}


def _defaults(name: str) -> dict[str, Any]:
    return {**find_method(name).settings().to_dict(), "name": ""}


def without_others(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What earlier versions resolved (every method's keys side by side): the method's own keys; else as given."""
    return own_keys(values, find_method(values.get("name", DEFAULT))) if set(values) >= EARLIER_KEYS else values


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in given.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _fields_of(settings: type) -> dict[str, Any]:
    """A dataclass of settings as pydantic's field definitions."""
    found: dict[str, Any] = {}
    for each in fields(settings):
        kind, bounds = types_of(settings)[each.name], each.metadata.get("bounds", {})
        if isinstance(kind, type) and is_dataclass(kind):
            inner = create_model(kind.__name__, __base__=Section, __doc__=kind.__doc__, **_fields_of(kind))
            found[each.name] = (inner, Field(default_factory=inner, description=each.metadata.get("help")))
            continue
        annotation = _checked(kind, each.metadata.get("check"), bounds)
        found[each.name] = (annotation, Field(each.default, description=each.metadata.get("help")))
    return found


def _checked(kind: Any, check: Any, bounds: Mapping[str, float]) -> Any:
    """The type with its check and range where they apply: on the numbers and texts inside lists."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return Union[tuple(_checked(option, check, bounds) for option in inner)]  # noqa: UP007 - made of values
    if origin is tuple:
        return tuple[tuple(_checked(item, check, bounds) if item is not Ellipsis else item for item in inner)]  # type: ignore[misc]
    if kind in (int, float) and bounds:
        return Annotated[kind, Field(**dict(bounds))]  # type: ignore[call-overload]
    if kind is str and check is not None:
        return Annotated[str, AfterValidator(lambda text: (check(text), text)[1])]
    return kind if kind is not NoneType else None
