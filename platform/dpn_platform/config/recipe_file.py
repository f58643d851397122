"""A recipe's file, and the one it `extends`: a control is written as what it changes, and cannot drift apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import laid_over
from dpn_platform.config.yaml_text import parse_yaml

EXTENDS, METHOD = "extends", "method"


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Plain values of an experiment's YAML, laid over those of the recipe that its key `extends` names.

    That recipe lies in the same folder, so that both travel together. Sections are merged key by key; what is no
    section is replaced whole, a list too.

    Raises:
        ConfigError: no such file, not YAML, no `key: value` lines, or recipes that extend each other; one line.
    """
    return _read(Path(path), str(path), ())


def recipe_files(path: Path) -> list[Path]:
    """The file of a recipe that can be read, and those it extends."""
    base = _values_of(path, str(path)).get(EXTENDS)
    return [path, *(recipe_files(path.parent / base) if base else ())]


def _read(path: Path, shown: str, below: tuple[Path, ...]) -> dict[str, Any]:
    values = _values_of(path, shown)
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    if not isinstance(base, str) or not base or Path(base).name != base:
        raise ConfigError(f"{shown}: {EXTENDS}: {base!r} is not the name of a recipe in the same folder")
    found = path.parent / base
    if found in (*below, path):
        raise ConfigError(f"{shown}: {EXTENDS}: {base} leads round in a circle")
    return _laid_over(_read(found, f"{shown}, {EXTENDS} {base}", (*below, path)), values)


def _values_of(path: Path, shown: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{shown}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown}: cannot be read: {error}") from None
    values = parse_yaml(text, shown)
    if values is None:
        raise ConfigError(f"{shown}: the file is empty")
    if not isinstance(values, dict):
        raise ConfigError(f"{shown}: holds a {type(values).__name__}; write `key: value` lines")
    return values


def _laid_over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        if key == METHOD and isinstance(below, dict) and isinstance(value, dict):
            merged[key] = laid_over(below, value)
            continue
        merged[key] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
