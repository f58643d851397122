"""`--option NAME=VALUE` of the verbs that score."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.config.errors import DpnError


def named_values(given: Sequence[str] | None) -> dict[str, str]:
    """Name -> value.

    Raises:
        DpnError: not NAME=VALUE, or a name twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise DpnError(f"--option {text}: write NAME=VALUE, for example sentence_model=FOLDER")
        if found.setdefault(name.strip(), value.strip()) != value.strip():
            raise DpnError(f"--option {name.strip()} is given twice")
    return found
