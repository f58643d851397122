"""Histories of nights: without a real gain aliases stay, with one they move, and the fast nights are the product's."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dpn_platform.benchmarks.statistics.paired_pictures import change_of_sums
from dpn_platform.sweeps.promotion.decide import StudyMaterial, decide
from dpn_platform.sweeps.promotion.guarding import Guards
from dpn_platform.sweeps.promotion.looks import corrected
from tests.evaluation.outcome_tables import answers, write_point
from tests.sweeps.promotion_nights import Nights


def at_most(moved: int, histories: int, share: float) -> float:
    """The chance of no more moves than these, were this the share of histories with one."""
    return sum(math.comb(histories, k) * share**k * (1 - share) ** (histories - k) for k in range(moved + 1))


def test_two_hundred_nights_without_a_gain_move_it_in_fewer_than_five_of_a_hundred_histories() -> None:
    """Refuted with 95% confidence: that 5% of histories move. Five new points a night, all as good as the holder."""
    histories = 200
    moved = sum(night is not None for night in Nights(0.8, candidates=5).moves(histories))
    assert at_most(moved, histories, 0.05) < 0.05


def test_a_gain_of_two_points_is_found_within_five_nights() -> None:
    """Of 60 histories in which one point a night truly gains two points; equal points differ on 10% of questions."""
    nights = Nights(0.8, gain=0.02, nights=5)
    assert 0.08 < nights.discordance() < 0.12
    found = nights.moves(60)
    assert sum(night is not None for night in found) >= 54


def test_a_fast_nights_change_is_what_is_decided_by(tmp_path: Path) -> None:
    """Wins and losses are all that a look needs where every picture has one question."""
    hardness = np.random.default_rng(0).normal(size=400)
    scores = {name: answers(0.8, hardness, seed) for seed, name in enumerate(("holder", "c", "d"))}
    points = [write_point(tmp_path, name, of_point, 0.5, per_picture=1) for name, of_point in scores.items()]
    material = StudyMaterial("night", tuple(points[:1]), "swiglu")
    now, guards = datetime(2024, 5, 1, tzinfo=UTC), Guards()
    first = decide(material, ["budget-0.60"], guards, now)
    (decision,) = decide(replace(material, points=tuple(points), decisions=tuple(first)), ["budget-0.60"], guards, now)
    changes = []
    for name in ("c", "d"):
        won, lost = (int((scores[name] > scores["holder"]).sum()), int((scores[name] < scores["holder"]).sum()))
        changes.append(change_of_sums((won - lost) / 400, (won + lost) / 400**2, 1 / 400, 400))
    assert np.allclose([one.p_value or 0 for one in decision.candidates], [change.p_value for change in changes])
    assert np.allclose([one.p_holm or 0 for one in decision.candidates], corrected(changes))
