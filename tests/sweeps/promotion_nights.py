"""Histories of nights in which a study's alias is looked at, simulated exactly and fast, with the product's own looks.

Every question has a hardness that all points share; given it, their answers are independent. Questions of one hardness
are alike, so all that a paired test sees of a candidate, its wins and losses against the holder, is binomial by
hardness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from dpn_platform.benchmarks.statistics.best_of_many import flattery_of_best
from dpn_platform.benchmarks.statistics.paired_pictures import change_of_sums
from dpn_platform.benchmarks.statistics.pictures import Pictures
from dpn_platform.sweeps.promotion.looks import alpha_of_look, corrected

NUM_CLASSES = 20
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Nights:
    """What is simulated.

    Attributes:
        accuracy: of the best of the first points. Candidates without a gain are as good as the first holder truly is.
        shared: correlation of two points' latent answers: how much of what they get wrong is the same.
        start: points that the first holder is the best of, as it seems on the questions.
        spread: from the best to the worst of them, in true accuracy.
        candidates: new points each night.
        gain: of one of the night's candidates over the first holder's true accuracy, from night `since` on.
    """

    accuracy: float
    shared: float = 0.9
    n: int = 4000
    start: int = 12
    spread: float = 0.0
    candidates: int = 4
    gain: float = 0.0
    since: int = 1
    nights: int = 200
    alpha: float = 0.05

    def chances(self, accuracy: float) -> np.ndarray:
        """Of a right answer, by hardness; their mean is the accuracy."""
        return _chances(accuracy, self.shared)

    def discordance(self) -> float:
        """Share of questions on which two equal points differ."""
        chances = self.chances(self.accuracy)
        return float((2 * chances * (1 - chances)).mean())

    def first_move(self, generator: np.random.Generator) -> int | None:
        """The night at which the alias moves; None where it does not."""
        per_class = np.full(NUM_CLASSES, self.n // NUM_CLASSES)
        right, flattery, level = self._first_holder(generator, per_class)
        chances = self.chances(level)
        shape = (self.nights, self.candidates, NUM_CLASSES)
        of_candidates = np.broadcast_to(chances, shape).copy()
        if self.gain:
            of_candidates[self.since - 1 :, 0] = self.chances(level + self.gain)
        wins = generator.binomial(per_class - right, of_candidates).sum(axis=2)
        losses = generator.binomial(right, 1 - of_candidates).sum(axis=2)
        for night in range(self.nights):
            pairs = zip(wins[night].tolist(), losses[night].tolist(), strict=True)
            n = self.n
            changes = [change_of_sums((won - lost) / n, (won + lost) / n**2, 1 / n, n, flattery) for won, lost in pairs]
            if min(corrected(changes)) <= alpha_of_look(self.alpha, night + 1):
                return night + 1
        return None

    def _first_holder(self, generator: np.random.Generator, per_class: np.ndarray) -> tuple[np.ndarray, float, float]:
        """The best of the first points: its right answers by hardness, its flattery, its true accuracy."""
        levels = [round(self.accuracy - self.spread * place / max(1, self.start - 1), 6) for place in range(self.start)]
        class_N = np.repeat(np.arange(NUM_CLASSES), per_class)
        chance_PN = np.stack([self.chances(level)[class_N] for level in levels])
        score_PN = (generator.random(chance_PN.shape) < chance_PN).astype(float)
        best = int(score_PN.sum(axis=1).argmax())
        pictures = Pictures("questions", np.ones(self.n), np.zeros(self.n, dtype=np.int64))
        seed = int(generator.integers(2**31))
        flattery = flattery_of_best(pictures, score_PN, np.zeros(self.start), seed)
        return np.bincount(class_N, score_PN[best]).astype(int), flattery, levels[best]

    def moves(self, histories: int, seed: int = 0) -> list[int | None]:
        """The first move of every history."""
        generator = np.random.default_rng(seed)
        return [self.first_move(generator) for _ in range(histories)]


@cache
def _chances(accuracy: float, shared: float) -> np.ndarray:
    hardness = np.array([_NORMAL.inv_cdf((k + 0.5) / NUM_CLASSES) for k in range(NUM_CLASSES)])
    low, high = -10.0, 10.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        latent = (middle - shared**0.5 * hardness) / (1 - shared) ** 0.5
        chances = np.array([_NORMAL.cdf(one) for one in latent])
        low, high = (middle, high) if chances.mean() < accuracy else (low, middle)
    return chances
