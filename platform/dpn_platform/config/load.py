"""YAML and `key=value` overrides to a validated `ExperimentConfig`, and back; its fingerprint; what two differ in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dpn_model.methods.registry import DEFAULT
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.messages import describe
from dpn_platform.config.method import laid_over
from dpn_platform.config.recipe_file import read_recipe
from dpn_platform.config.redact import without_credentials
from dpn_platform.config.schema import ExperimentConfig, experiment_section, parse_values
from dpn_platform.config.written import check_written
from dpn_platform.config.yaml_text import parse_yaml

# What an experiment is called and where its results are kept does not change what it computes.
NOT_THE_EXPERIMENT = ("name", "storage", "tracking", "pipeline", "data.allow_unknown_answers")

_FINGERPRINT_DIGITS = 16


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment.

    Args:
        path: a YAML file; see `recipe_file` for the key `extends`.
        overrides: `key=value`, the key dotted, the value in YAML (`train.steps=100`, `method.experts=[1x1,2x2]`).

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a bad value, a bad override, or what `check_written`
            refuses; one line.
    """
    return as_written(parse_config(apply_overrides(read_recipe(path), overrides), str(path)), str(path))


def as_written(config: ExperimentConfig, source: str) -> ExperimentConfig:
    """The config as it is, where somebody who writes it so is not refused.

    Raises:
        ConfigError: see `check_written`; one line that names `source` first.
    """
    try:
        check_written(config)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


def parse_config(values: Mapping[str, Any], source: str = "config") -> ExperimentConfig:
    """Validate plain values.

    Args:
        values: nested mappings as in the YAML.
        source: what the error message names first.

    Raises:
        ConfigError: everything that is wrong, in one line, with the nearest valid name of an unknown key.
    """
    try:
        return parse_values(values)
    except ValidationError as error:
        name = values["method"].get("name", DEFAULT) if isinstance(values.get("method"), Mapping) else DEFAULT
        raise ConfigError(describe(error, experiment_section(name), source)) from None
    except ValueError as error:
        raise ConfigError(f"{source}: method.name = {values['method']['name']!r}: {error}") from None


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `key=value` set; later ones win.

    Raises:
        ConfigError: not `key=value`, or a key inside something that is not a section.
    """
    result: dict[str, Any] = json.loads(json.dumps(values, default=str))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise ConfigError(f"override '{override}': write key=value, for example train.steps=100")
        *sections, last = (part.strip() for part in key.split("."))
        target = result
        for section in sections:
            # A section that is absent, or written empty in the YAML, starts here.
            inner = target.get(section)
            if inner is None:
                inner = target[section] = {}
            if not isinstance(inner, dict):
                raise ConfigError(f"override '{override}': '{section}' is not a section; give its whole value")
            target = inner
        target[last] = parse_yaml(text, f"override '{override}'")
    before = values.get("method")
    if isinstance(before, Mapping) and isinstance(result.get("method"), dict):
        given = _changed(before, result["method"])
        result["method"] = laid_over(before, given) if "name" in given else result["method"]
    return result


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `after` that `before` does not have, or has otherwise."""
    return {key: value for key, value in after.items() if key not in before or before[key] != value}


#: keys that came after experiments had fingerprints, with the values at which nothing is computed otherwise
_ADDED_LATER: dict[str, Any] = {"data.positives": "exact", "train.embedding_lr": None, "train.slow_vision_lr": None}
_ABSENT = object()


def dump_config(config: ExperimentConfig) -> str:
    """YAML with every key resolved, readable by `load_config`; credentials inside addresses are masked."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return without_credentials(text)


def fingerprint(config: ExperimentConfig, exclude: Collection[str] = NOT_THE_EXPERIMENT) -> str:
    """16 hexadecimal digits that two configs share exactly when they describe the same computation.

    Args:
        config: the resolved config; defaults count like written values.
        exclude: dotted keys or sections left out.
    """
    kept = {
        key: value
        for key, value in flatten(config)
        if not _is_within(key, exclude) and _ADDED_LATER.get(key, _ABSENT) != value
    }
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def difference(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """What changed, one `key: old -> new` per leaf; `absent` where one side has no such section."""
    return difference_of_values(old.model_dump(mode="json"), new.model_dump(mode="json"))


def difference_of_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """As `difference`, of plain values that need not be a config."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        without_credentials(f"{key}: {_show(before, key)} -> {_show(after, key)}")
        for key in keys
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


def flatten(config: ExperimentConfig) -> Iterator[tuple[str, Any]]:
    """(dotted key, JSON value) of every leaf; a missing optional section is one leaf with value None."""
    yield from _leaves(config.model_dump(mode="json"), "")


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _show(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "absent"


def _is_within(key: str, excluded: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in excluded)
