"""promote: the decisions of tonight, from a study's ledger, each kept as an object that is never written again.

    <runs>/studies/<study>/promotions/NNNN.json

What an alias names follows from these records alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.trial_points import point_of_trial
from dpn_platform.storage import create_bytes, list_files, read_json
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.decide import StudyMaterial, decide
from dpn_platform.sweeps.promotion.decision import Decision
from dpn_platform.sweeps.promotion.guarding import Guards


def promote(
    ledger: Ledger,
    aliases: Sequence[str],
    guards: Guards,
    *,
    alpha: float = 0.05,
    now: datetime | None = None,
    dry_run: bool = False,
) -> list[Decision]:
    """Decide about aliases and keep the decisions; of a dry run nothing is kept.

    Raises:
        DpnError: no such study, nothing evaluated, bad input (see `decide`), or another promotion at the same time.
    """
    decisions = decide(study_material(ledger), aliases, guards, now or datetime.now(UTC), alpha)
    return decisions if dry_run else [_keep(ledger, decision) for decision in decisions]


def study_material(ledger: Ledger) -> StudyMaterial:
    """What the ledger knows.

    Raises:
        DpnError: no such study, or nothing was evaluated in it yet.
    """
    config = ledger.config()
    assert config.sweep is not None
    trials = [trial for trial in ledger.trials().values() if trial.state == "finished" and trial.route is None]
    if not trials:
        raise DpnError(f"study '{ledger.study}' has no evaluated point yet; promote it when trials have finished")
    found = (point_of_trial(trial.to_json(), f"trial {trial.key}") for trial in trials)
    points = tuple(point for point in found if point is not None)
    asked = tuple(entry.name for entry in config.eval.benchmarks)
    decisions = tuple(read_decisions(ledger))
    return StudyMaterial(ledger.study, points, config.sweep.flops_convention, decisions, asked=asked)


def read_decisions(ledger: Ledger) -> list[Decision]:
    """All decisions in their order."""
    found = [Decision.from_json(read_json(uri), uri) for uri in list_files(f"{ledger.uri}/promotions", ".json")]
    return sorted(found, key=lambda one: one.number)


def _keep(ledger: Ledger, decision: Decision) -> Decision:
    """Under the next number."""
    taken = [
        int(uri.rpartition("/")[2].removesuffix(".json")) for uri in list_files(f"{ledger.uri}/promotions", ".json")
    ]
    kept = decision.model_copy(update={"number": max(taken, default=0) + 1})
    text = json.dumps(kept.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if not create_bytes(f"{ledger.uri}/promotions/{kept.number:04d}.json", text.encode()):
        raise DpnError(f"study '{ledger.study}': another promotion was written at the same time; run it again")
    return kept
