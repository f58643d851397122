"""A study's config as the recipe of another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import apply_overrides, difference, dump_config, parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.yaml_text import parse_yaml
from dpn_platform.sweeps.ledger import Ledger

#: a number that an earlier copy was given; more digits are a date
_COPY = re.compile(r"(?P<name>.*)-(?P<number>\d{1,3})")


@dataclass(frozen=True)
class Clone:
    """A recipe made of a study.

    Attributes:
        study: its name.
        config: what the recipe says.
        changes: what it says otherwise, `key: old -> new`.
    """

    study: str
    config: ExperimentConfig
    changes: list[str]

    def text(self, file: str) -> str:
        """The YAML, with where it comes from and its command on top."""
        changes = "".join(f"#   {line}\n" for line in self.changes)
        return f"# From study {self.study}, with\n{changes}#\n# Command:   dpn sweep {file}\n{dump_config(self.config)}"


def cloned(ledger: Ledger, overrides: Sequence[str]) -> Clone:
    """The study's config with changes, checked as any recipe is.

    Args:
        ledger: of the study.
        overrides: `key=value`; without a name among them the config is numbered on: `x`, `x-2`, `x-3`.

    Raises:
        ConfigError: the changed config is none.
    """
    source = f"study '{ledger.study}'"
    values = parse_yaml(ledger.header().config, source)
    before = parse_config(values, source)
    changed = apply_overrides({**values, "name": _next_name(before.name)}, overrides)
    after = parse_config(changed, f"{source} with changes")
    if after.sweep is None:
        raise ConfigError(f"{source} with changes: no section 'sweep' is left, so it is no recipe of a study")
    return Clone(ledger.study, after, difference(before, after))


def _next_name(name: str) -> str:
    numbered = _COPY.fullmatch(name)
    return f"{name}-2" if numbered is None else f"{numbered['name']}-{int(numbered['number']) + 1}"
