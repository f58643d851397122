"""What a study's search looks for, and what a point has to keep to.

    objectives: [accuracy, flops_ratio]                       # the default; or accuracy/pope, kv_mib, train_hours ...
    constraints: ["accuracy >= dense - 1", "kv_mib <= 200"]   # accuracies in percent, as tables print them

`curve` is one number for all that a trial's checkpoint can do: the area that its points (its own, and those of its
dial) dominate together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

ACCURACY, FLOPS_RATIO, CURVE = "accuracy", "flops_ratio", "curve"
#: name -> whether more is better
_KNOWN = {
    ACCURACY: True,
    FLOPS_RATIO: False,
    CURVE: True,
    "visual_tokens": False,
    "kv_mib": False,
    "prefill_ms": False,
    "decode_ms_per_token": False,
    "train_hours": False,
}
#: what may stand behind a slash: a benchmark; a FLOPs convention
_FAMILIES = {ACCURACY: r"[a-z0-9_]+", FLOPS_RATIO: "eq8|swiglu|executed|true"}
_CONSTRAINT = re.compile(r"(\S+)\s*(<=|>=)\s*(?:(dense)\s*(?:([-+*])\s*([0-9.]+(?:e-?\d+)?))?|([0-9.]+(?:e-?\d+)?))")


class Constraint(NamedTuple):
    """`name` at most, or at least, a number, or the dense control's value moved or scaled by it.

    Attributes:
        is_at_most: otherwise at least.
        change: of the dense control's value: "+", "-" or "*"; "": the number itself.
    """

    text: str
    name: str
    is_at_most: bool
    change: str
    number: float

    def excess(self, values: Mapping[str, float], dense: Mapping[str, float]) -> float:
        """By how much it is broken, 0 or less where it is kept; NaN where a value was not measured."""
        value, base = values.get(self.name, math.nan), dense.get(self.name, math.nan)
        # In tables, and so here, accuracies are percent; values are fractions.
        number = self.number / 100 if self.name == ACCURACY and self.change != "*" else self.number
        limit = {"": number, "+": base + number, "-": base - number, "*": base * number}[self.change]
        return value - limit if self.is_at_most else limit - value


def constraint(text: str) -> Constraint:
    """A constraint as it is written.

    Raises:
        ValueError: not `NAME <= NUMBER`, `NAME >= dense - NUMBER` and the like, or no such name.
    """
    found = _CONSTRAINT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r}: write NAME <= NUMBER, NAME >= dense - NUMBER, or NAME <= dense * NUMBER")
    name, sign, dense, change, moved, number = found.groups()
    _check(name)
    if name == CURVE:
        raise ValueError(f"{text!r}: {CURVE} is an objective; a constraint is about a point")
    if dense and not change:
        change, moved = "+", "0"
    return Constraint(text.strip(), name, sign == "<=", change or "", float(moved or number))


def is_maximized(objective: str) -> bool:
    """Whether more of it is better."""
    return _KNOWN[objective.partition("/")[0]]


def _check(name: str) -> str:
    stem, slash, rest = name.partition("/")
    if stem not in _KNOWN or (slash and not re.fullmatch(_FAMILIES.get(stem, "(?!)"), rest)):
        raise ValueError(
            f"{name!r}; allowed: {', '.join(_KNOWN)}, {ACCURACY}/BENCHMARK, {FLOPS_RATIO}/eq8, swiglu, executed or true"
        )
    return name


def _checked_constraint(text: str) -> str:
    constraint(text)
    return text


Objective = Annotated[str, AfterValidator(_check)]
ConstraintText = Annotated[str, AfterValidator(_checked_constraint)]
