"""Which trial of one study is which of another: by its settings, else by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Pairs(NamedTuple):
    """Names of what is in both studies, side by side, and of what is in one alone."""

    both: list[tuple[str, str]]
    only_first: list[str]
    only_second: list[str]


def settings_text(method: str, params: Mapping[str, Any], on: str | None = None) -> str:
    """What is done there, in one text: equal for equal settings, whatever they are called."""
    return json.dumps([method, dict(params), on], sort_keys=True, default=str)


def pair(first: Mapping[str, str], second: Mapping[str, str]) -> Pairs:
    """Pairs what has the same settings, of several what is called alike; then what is left and called alike.

    Args:
        first, second: name -> settings, see `settings_text`.
    """
    found: dict[str, str] = {}
    waiting: dict[str, list[str]] = {}
    for name, settings in second.items():
        waiting.setdefault(settings, []).append(name)
    # Those called alike go first, so that none of them is taken by a twin of another name.
    for name, settings in sorted(first.items(), key=lambda one: second.get(one[0]) != one[1]):
        same = waiting.get(settings, [])
        if same:
            found[name] = same.pop(same.index(name) if name in same else 0)
    taken = set(found.values())
    found |= {name: name for name in first if name not in found and name in second and name not in taken}
    taken = set(found.values())
    return Pairs(
        [(name, found[name]) for name in first if name in found],
        [name for name in first if name not in found],
        [name for name in second if name not in taken],
    )
