"""Decision: what became of an alias at one time and why, as it is kept for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.points import Convention, without_nan

SCHEMA_VERSION = 1
Action = Literal["first", "moved", "kept", "refused"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Candidate(_Frozen):
    """A point that was looked at for the first time.

    Attributes:
        value: accuracy, of a rule with a price minus price times cost.
        gain, ci: over the holder on the same questions, in what the rule looks at; None where nothing was compared.
        p_value, p_holm: one-sided, and corrected for all candidates of the look.
        is_proven: whether it beats the holder.
        note: why it was not compared.
    """

    name: str
    accuracy: float
    cost: float
    value: float
    gain: float | None = None
    ci: tuple[float, float] | None = None
    p_value: float | None = None
    p_holm: float | None = None
    is_proven: bool = False
    note: str | None = None


class GuardResult(_Frozen):
    """A candidate against the holder on a benchmark that it must not lose on; None where outcomes are missing."""

    benchmark: str
    candidate: str
    passed: bool
    n: int = 0
    change: float | None = None
    ci: tuple[float, float] | None = None
    note: str | None = None


class Decision(_Frozen):
    """One look at one alias.

    Attributes:
        number: of the record within its study; 0: not written.
        rule: in words; `max_cost` and `price` are its figures.
        action: "first": named without a test; "refused": something is missing, or a guard has stopped the move.
        look: at this holder, of those that spend; 0: nothing was tested.
        alpha, alpha_spent: of all looks at this holder, and of this one.
        candidates: points that were new.
        passed_over: points that the first holder was chosen from.
        flattery: by how much the questions that chose the first holder flatter it, in what the rule looks at.
        guards: of those candidates that would have moved the alias, with the margin in points.
    """

    schema_version: int = SCHEMA_VERSION
    number: int = 0
    study: str
    alias: str
    decided_at: str
    rule: str
    convention: Convention
    max_cost: float | None = None
    price: float = 0.0
    action: Action
    reason: str
    holder_before: str | None = None
    holder: str | None = None
    look: int = 0
    alpha: float
    alpha_spent: float = 0.0
    n: int = 0
    pictures: int = 0
    candidates: tuple[Candidate, ...] = ()
    passed_over: tuple[str, ...] = ()
    flattery: float = 0.0
    guards: tuple[GuardResult, ...] = ()
    margin: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = without_nan(self.model_dump(mode="json"))
        return plain

    @classmethod
    def from_json(cls, document: Any, source: str) -> Decision:
        """The decision that `to_json` wrote.

        Raises:
            DpnError: not a decision, or of a newer version.
        """
        if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
            raise DpnError(f"{source}: not a promotion's record of schema_version {SCHEMA_VERSION}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DpnError(f"{source}: not a promotion's record, {where}: {first['msg']}") from None


def current_aliases(decisions: Iterable[Decision]) -> dict[str, str]:
    """Alias -> the point that it names, from all decisions in their order."""
    return {one.alias: one.holder for one in decisions if one.holder is not None}
