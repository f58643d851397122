"""Names of a study's aliases: what they stand for is `sweeps.promotion.rules`' business."""

from __future__ import annotations

import re

CHAMPION, KNEE = "champion", "knee"
ALLOWED = (
    "champion, knee, budget-X (best at a FLOPs ratio of at most X, up to 1), objective-P (best accuracy minus P times "
    "the ratio)"
)
_NUMBERED = re.compile(r"(budget|objective)-(\d+(?:\.\d+)?)")


def alias_of(text: str) -> str:
    """The alias as it is written everywhere: `budget-0.4` is `budget-0.40`.

    Raises:
        ValueError: no rule goes by that name.
    """
    if text in (CHAMPION, KNEE):
        return text
    found = _NUMBERED.fullmatch(text)
    number = 0.0 if found is None else float(found[2])
    if found is None or number <= 0 or (found[1] == "budget" and number > 1):
        raise ValueError(f"alias '{text}' has no rule; allowed are {ALLOWED}")
    return f"{found[1]}-{number:.2f}" if round(number, 2) == number else f"{found[1]}-{number:g}"


def registry_alias(alias: str) -> str:
    """The alias in a model registry, which takes no dots: `budget-40` is the best at 0.40, as percent."""
    kind, _, number = alias.partition("-")
    percent = f"{100 * float(number):.6g}" if kind == "budget" else number
    return f"{kind}-{percent}".replace(".", "_") if number else alias
