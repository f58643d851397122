"""What a sweep varies: settings of one method or of several, and any key of the training.

    search: {routing_loss_weight: [0.03, 3.0], experts: [[1x1, 1x2, 2x2], [1x1, 2x2]]}
    search: {method: random_drop, keep_ratio: [0.2, 0.9], train.lr: {low: 1.0e-4, high: 1.0e-3, log: true}}
    search: {methods: {dpn: {routing_loss_weight: [0.03, 3.0]}, static: {kernel: [1x2, 2x2]}}, train.steps: [120, 240]}

A method's settings go by the names its spec gives them or by their own; keys with a section (`train.`, `model.`,
`data.`) are the experiment's, for every method. `dimensions` says how ranges and choices are written. What a method's
spec varies by default is varied within the spec's own bounds where nothing is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from itertools import product
from typing import Any, get_args

from pydantic import ConfigDict, model_validator

from dpn_model.methods.registry import DEFAULT, find_method
from dpn_model.methods.settings import types_of
from dpn_model.methods.spec import Dimension, MethodSpec
from dpn_platform.config.dimensions import ends, filled, grid_values
from dpn_platform.config.section import Section

#: sections whose keys may be varied beside the method's; eval and storage decide what is measured and where it is kept
SECTIONS = ("train", "model", "data")
#: what trials must share, or their points are answers to other questions
_SHARED = ("data.uri", "data.eval_split")
_NOT_SEARCHED = ("eval", "storage", "tracking", "sweep", "pipeline")


class SearchConfig(Section):
    """The searched method, or `methods` with a space each; dimensions as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True, ignored_types=(cached_property,))

    method: str = DEFAULT
    methods: dict[str, dict[str, Any]] = {}

    @cached_property
    def spaces(self) -> dict[str, dict[str, Dimension]]:
        """Method -> name in the recipe -> what is varied; keys of the experiment are in every method's."""
        given = dict(self.__pydantic_extra__ or {})
        common = {name: _of_experiment(name, value) for name, value in given.items() if is_of_experiment(name)}
        own = {name: value for name, value in given.items() if name not in common}
        if self.methods and own:
            raise ValueError(
                f"sweep.search.{next(iter(own))}: with `methods`, settings stand under their method's name"
            )
        found = {}
        for method, written in (self.methods or {self.method: own}).items():
            spec = find_method(method)
            space = {name: _dimension(spec, name, value) for name, value in written.items()}
            settings = [dimension.setting for dimension in space.values()]
            if twice := [setting for setting in settings if settings.count(setting) > 1]:
                raise ValueError(f"sweep.search varies {twice[0]} under two names: {', '.join(space)}")
            found[method] = {**space, **common}
        return found

    def axes(self, method: str) -> dict[str, Dimension]:
        """The method's space by the dotted keys of an experiment."""
        space = self.spaces[method].items()
        return {name if is_of_experiment(name) else f"method.{one.setting}": one for name, one in space}

    def of_method(self, method: str) -> list[Dimension]:
        """What is varied of the method's own settings."""
        return [one for name, one in self.spaces[method].items() if not is_of_experiment(name)]

    def grid(self) -> list[dict[str, Any]]:
        """Every point of the space by dotted key, `method.name` among them.

        Raises:
            ValueError: a range that nothing divides.
        """
        return [
            {"method.name": method, **dict(zip(self.axes(method), values, strict=True))}
            for method in self.spaces
            for values in product(*(grid_values(name, one) for name, one in self.spaces[method].items()))
        ]

    def params_of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """An explicit point, written with the names of `search`, by dotted key.

        Raises:
            ValueError: no such method or setting, or a value that it does not take.
        """
        given = dict(point)
        method = given.pop("method", next(iter(self.spaces)))
        spec = find_method(method)
        params: dict[str, Any] = {"method.name": method}
        for name, value in given.items():
            key = name
            if not is_of_experiment(name):
                known = spec.search.get(name) or _of_setting(spec, name)
                _check(spec, known.setting, value, name)
                key = f"method.{known.setting}"
            elif any(name == one for one in _SHARED):
                raise ValueError(f"{name}: trials must answer the same questions")
            params[key] = value
        return params

    @model_validator(mode="after")
    def _is_a_space(self) -> SearchConfig:
        if not self.methods and {"method", "methods"} & self.model_fields_set == {"methods"}:
            raise ValueError("sweep.search.methods names none; allowed: {NAME: {SETTING: values}}, or one as `method`")
        _ = self.spaces
        return self


def is_of_experiment(name: str) -> bool:
    """Whether a dimension is a key of the experiment rather than a setting of the method."""
    return name.partition(".")[0] in SECTIONS and "." in name


def with_defaults(search: Any, method: str) -> Any:
    """A search as it is written, resolved: the method (the experiment's own, where it can be searched), and bounds."""
    if search is not None and not isinstance(search, Mapping):
        return search
    given = dict(leaf for name, value in (search or {}).items() for leaf in _flat(str(name), value))
    if "methods" in given and not given["methods"] and "method" not in given:  # told by the section
        return search
    try:
        if given.get("methods"):
            spaces = {name: _with_bounds(name, space or {}) for name, space in given["methods"].items()}
            return {"method": next(iter(spaces)), **given, "methods": spaces}
        of_method = [key for key in given if not is_of_experiment(key)]
        own = find_method(method)
        is_own = (
            any(key in own.search or _kind_of(own, key) is not None for key in of_method)
            if of_method
            else bool(own.search) or bool(given)
        )
        name = given.pop("method", None) or (method if is_own else DEFAULT)
        return {"method": name, **_with_bounds(name, given)}
    except (ValueError, AttributeError):  # told by the section
        return search


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Keys of the experiment by their dotted names, also where sections are nested, as an override writes them."""
    is_dimension = isinstance(value, Mapping) and ("choices" in value or not {"low", "high"}.isdisjoint(value))
    if name.partition(".")[0] not in SECTIONS or not isinstance(value, Mapping) or is_dimension:
        yield name, value
        return
    for key, inner in value.items():
        yield from _flat(f"{name}.{key}", inner)


def _with_bounds(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    defaults = find_method(method).search
    return {**{key: _written(one) for key, one in defaults.items() if one.setting not in given}, **given}


def _written(dimension: Dimension) -> list[Any]:
    if dimension.low is None:
        return [list(choice) if isinstance(choice, tuple) else choice for choice in dimension.choices]
    return [dimension.low, dimension.high]


def _dimension(spec: MethodSpec, name: str, given: Any) -> Dimension:
    known = spec.search.get(name) or _of_setting(spec, name)
    where = f"sweep.search.{name} = {given!r}"
    dimension = filled(known, given, where)
    for value in ends(dimension):
        _check(spec, known.setting, value, where)
    return dimension


def _of_experiment(name: str, given: Any) -> Dimension:
    """Its values are checked by the sections they belong to (`ExperimentConfig`)."""
    where = f"sweep.search.{name} = {given!r}"
    if any(name == key or name.startswith(f"{key}.") for key in _SHARED):
        raise ValueError(
            f"{where}: trials must answer the same questions; allowed: other keys of {', '.join(SECTIONS)}"
        )
    is_range = isinstance(given, list | tuple) and len(given) == 2 and any(isinstance(one, float) for one in given)
    return filled(Dimension(name, 0.0, 0.0) if is_range else Dimension(name), given, where)


def _of_setting(spec: MethodSpec, name: str) -> Dimension:
    """Any setting may be varied under its own dotted name."""
    kind = _kind_of(spec, name)
    if kind is None and name.partition(".")[0] in _NOT_SEARCHED:
        raise ValueError(f"sweep.search.{name}: trials must answer the same questions and be kept in one place")
    if kind is None:
        allowed = ", ".join(spec.search) or "none of its own"
        raise ValueError(
            f"sweep.search.{name}: {spec.name} has no setting of that name; by default it varies: {allowed}; any "
            f"of its settings may be named, and keys of {', '.join(SECTIONS)}, such as train.lr"
        )
    return Dimension(name, 0.0, 0.0) if float in (kind, *get_args(kind)) else Dimension(name)


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
