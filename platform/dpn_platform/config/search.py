"""What a sweep varies: settings of one method, by the names its spec gives them or by their own.

    search: {routing_loss_weight: [0.03, 3.0], experts: [[1x1, 1x2, 2x2], [1x1, 2x2]]}
    search: {method: random_drop, keep_ratio: [0.2, 0.9]}

A number is varied within [low, high]; anything else among the listed values. What a method's spec varies by default is
varied within the spec's own bounds where nothing is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, model_validator

from dpn_model.methods.registry import DEFAULT, find_method
from dpn_model.methods.settings import types_of
from dpn_model.methods.spec import Dimension, MethodSpec
from dpn_platform.config.section import Section


class SearchConfig(Section):
    """The searched method, and its dimensions as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True, ignored_types=(cached_property,))

    method: str = DEFAULT

    @cached_property
    def dimensions(self) -> dict[str, Dimension]:
        """By name, in the order they are written."""
        spec = find_method(self.method)
        found = {name: _dimension(spec, name, given) for name, given in (self.__pydantic_extra__ or {}).items()}
        settings = [dimension.setting for dimension in found.values()]
        if twice := [setting for setting in settings if settings.count(setting) > 1]:
            raise ValueError(f"sweep.search varies {twice[0]} under two names: {', '.join(found)}")
        return found

    @model_validator(mode="after")
    def _is_a_space(self) -> SearchConfig:
        _ = self.dimensions
        return self


def with_defaults(search: Any, method: str) -> Any:
    """A search as it is written, resolved: the method (the experiment's own, where it can be searched), and bounds."""
    if search is not None and not isinstance(search, Mapping):
        return search
    given = dict(search or {})
    try:
        own = find_method(method)
        is_own = (
            any(key in own.search or _kind_of(own, key) is not None for key in given) if given else bool(own.search)
        )
        name = given.pop("method", None) or (method if is_own else DEFAULT)
        defaults = find_method(name).search
    except ValueError:  # told by the section
        return search
    kept = {key: _written(one) for key, one in defaults.items() if one.setting not in given}
    return {"method": name, **kept, **given}


def _written(dimension: Dimension) -> list[Any]:
    if dimension.low is None:
        return [list(choice) if isinstance(choice, tuple) else choice for choice in dimension.choices]
    return [dimension.low, dimension.high]


def _dimension(spec: MethodSpec, name: str, given: Any) -> Dimension:
    known = spec.search.get(name) or _of_setting(spec, name)
    where = f"sweep.search.{name} = {given!r}"
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"{where}: must be a list, [low, high] of a number or the values to choose from")
    if known.low is None:
        choices = tuple(tuple(one) if isinstance(one, list) else one for one in given)
        for choice in choices:
            _check(spec, known.setting, choice, where)
        return replace(known, choices=choices)
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in given)
    if len(given) != 2 or not numbers or given[0] > given[1] or given[0] < 0:
        raise ValueError(f"{where}: must be [low, high] with 0 <= low <= high")
    if known.is_log and given[0] == 0:
        raise ValueError(f"{where}: low must be above 0: the scale is logarithmic")
    for bound in given:
        _check(spec, known.setting, bound, where)
    return replace(known, low=float(given[0]), high=float(given[1]))


def _of_setting(spec: MethodSpec, name: str) -> Dimension:
    """Any setting may be varied under its own dotted name."""
    kind = _kind_of(spec, name)
    if kind is None:
        allowed = ", ".join(spec.search) or "none of its own"
        raise ValueError(
            f"sweep.search.{name}: {spec.name} has no setting of that name; by default it varies: {allowed}; any "
            "of its settings may be named"
        )
    return Dimension(name, 0.0, 0.0) if kind is float else Dimension(name)


def _kind_of(spec: MethodSpec, name: str) -> Any:
    """Type of a setting by its dotted name; None: there is none."""
    kind: Any = spec.settings
    for key in str(name).split("."):
        known = {each.name for each in fields(kind)} if isinstance(kind, type) and is_dataclass(kind) else set()
        kind = types_of(kind)[key] if key in known else None
    return kind


def _check(spec: MethodSpec, setting: str, value: Any, where: str) -> None:
    values: Any = value
    for key in reversed(setting.split(".")):
        values = {key: values}
    try:
        spec.settings.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
