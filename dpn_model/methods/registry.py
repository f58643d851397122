"""Methods by name: ours, one line each, and those of installed packages (entry points of the group `dpn_lab.methods`).

A new method is a folder here, a line here, a test and a recipe; or a package of its own, whose entry point names its
`MethodSpec`. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dpn_model.methods.settings import MethodSettings
from dpn_model.methods.spec import MethodSpec

GROUP = "dpn_lab.methods"
#: the method without any part, which every other is compared with
DENSE = "dense"
#: controls of a study that names none
DEFAULT_CONTROLS = ("dense", "static_1x2", "static_2x2", "random_drop")
#: what a recipe without a method's name means
DEFAULT = "dpn"

_OURS = {
    "dense": "dpn_model.methods.dense.spec",
    "dpn": "dpn_model.methods.dpn.spec",
    "static": "dpn_model.methods.static.spec",
    "random_kernel": "dpn_model.methods.random_kernel.spec",
    "random_drop": "dpn_model.methods.random_drop.spec",
    "downsample": "dpn_model.methods.downsample.spec",
    "complexity": "dpn_model.methods.complexity.spec",
    "uniform_grid": "dpn_model.methods.uniform_grid.spec",
    "fastv": "dpn_model.methods.fastv.spec",
    "pyramiddrop": "dpn_model.methods.pyramiddrop.spec",
    "sparsevlm": "dpn_model.methods.sparsevlm.spec",
    "hidrop": "dpn_model.methods.hidrop.spec",
    "fastervlm": "dpn_model.methods.fastervlm.spec",
    "prumerge": "dpn_model.methods.prumerge.spec",
    "visionzip": "dpn_model.methods.visionzip.spec",
    "divprune": "dpn_model.methods.divprune.spec",
    "cdpruner": "dpn_model.methods.cdpruner.spec",
    "vispruner": "dpn_model.methods.vispruner.spec",
    "holov": "dpn_model.methods.holov.spec",
    "eadaprune": "dpn_model.methods.eadaprune.spec",
    "dart": "dpn_model.methods.dart.spec",
    "vscan": "dpn_model.methods.vscan.spec",
    "avgpool": "dpn_model.methods.avgpool.spec",
    "pixel_shuffle": "dpn_model.methods.pixel_shuffle.spec",
    "resampler": "dpn_model.methods.resampler.spec",
    "c_abstractor": "dpn_model.methods.c_abstractor.spec",
    "ldpv2": "dpn_model.methods.ldpv2.spec",
    "tokenpacker": "dpn_model.methods.tokenpacker.spec",
    "mqt": "dpn_model.methods.mqt.spec",
    "gamma_mod": "dpn_model.methods.gamma_mod.spec",
    "moe_llava": "dpn_model.methods.moe_llava.spec",
    "roe_llava": "dpn_model.methods.roe_llava.spec",
    "avg_llava": "dpn_model.methods.avg_llava.spec",
    "llava_mini": "dpn_model.methods.llava_mini.spec",
    "m3": "dpn_model.methods.m3.spec",
    "twigvlm": "dpn_model.methods.twigvlm.spec",
    "glimpse_prune": "dpn_model.methods.glimpse_prune.spec",
    "vispco": "dpn_model.methods.vispco.spec",
}


#: specs that this process brought along
_REGISTERED: dict[str, MethodSpec] = {}


def register(spec: MethodSpec) -> None:
    """Make a method known in this process alone, as a notebook does; a package uses an entry point.

    Raises:
        ValueError: there is another method of that name.
    """
    if spec.name in (*_OURS, *_plugins()):
        raise ValueError(f"there is a method {spec.name!r} already; choose another name")
    _REGISTERED[spec.name] = spec


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _OURS}


def method_names() -> tuple[str, ...]:
    """All registered methods, ours first."""
    return (*_OURS, *sorted({*_plugins(), *_REGISTERED}))


def find_method(name: str) -> MethodSpec:
    """The method of that name.

    Raises:
        ValueError: there is none, or an installed package's entry point does not give one of that name.
    """
    if not isinstance(name, str):  # as read from a file
        raise ValueError(f"a method's name is a text, this is {name!r}; allowed: {', '.join(method_names())}")
    if name in _OURS:
        spec: MethodSpec = importlib.import_module(_OURS[name]).SPEC
        return spec
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in _plugins():
        near = difflib.get_close_matches(str(name), method_names(), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"unknown method {name!r}{hint}; allowed: {', '.join(method_names())}")
    point = _plugins()[name]
    try:
        found = point.load()
    except Exception as error:  # another package's code: whatever it raises, the line says whose
        raise ValueError(
            f"method {name!r} of {point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, MethodSpec) or found.name != name:
        raise ValueError(f"entry point {GROUP}: {name} = {point.value} is not a MethodSpec of that name")
    return found


def methods_with(ability: str) -> tuple[str, ...]:
    """Names of the methods whose spec has an ability (`has_dial`, `needs_router_token` ...)."""
    return tuple(name for name in method_names() if getattr(find_method(name), ability))


def settings_of(values: Mapping[str, Any]) -> MethodSettings:
    """A method's settings from plain data: `name` and its own keys.

    What earlier versions saved (every method's keys side by side) is read too: the method's own keys of it.

    Raises:
        ValueError: an unknown method, a key that it does not have, or a value that a setting cannot take.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"method = {values!r}: must be a mapping, for example {{name: static, kernel: 2x2}}")
    spec = find_method(values.get("name", DEFAULT))
    return spec.settings.from_dict(own_keys(values, spec) if set(values) >= EARLIER_KEYS else values)


#: keys that every method's settings had while they were one list
EARLIER_KEYS = frozenset(
    "experts kernel keep_ratio router temperature selection scaling min_tokens positions routing_loss sites".split()
)


def own_keys(values: Mapping[str, Any], spec: MethodSpec) -> dict[str, Any]:
    """Of plain data, what belongs to one method's settings, its name included."""
    known = spec.settings.__dataclass_fields__
    return {"name": spec.name, **{key: value for key, value in values.items() if key in known}}


def Method(name: str = DEFAULT, **settings: Any) -> Any:  # noqa: N802 - reads as what it makes: a method's settings
    """Settings of a registered method: `Method("static", kernel="2x2")`.

    Raises:
        ValueError: as in `settings_of`.
    """
    return settings_of({"name": name, **settings})
