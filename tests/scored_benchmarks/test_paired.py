"""Paired statistics: known p-values, differences that follow from their parts, intervals that know of the pairing."""

import math

import numpy as np
import pytest

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.benchmarks.registry import benchmark_in_name
from dpn_platform.benchmarks.statistics.paired import holm, mcnemar, paired_difference, run_score
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun


def run(name, benchmark, questions):
    return ScoredRun(name, name, {benchmark: {(q.part or "", str(q.id), str(q.gold)): q for q in questions}})


def gqa(name, scores):
    return run(name, "gqa", [QuestionScore(i, "x", "x", float(score)) for i, score in enumerate(scores)])


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(3, 12) == mcnemar(12, 3) == pytest.approx(2 * sum(math.comb(15, k) for k in range(4)) / 2**15)
    # 20,000 discordant questions do not overflow; the normal approximation is near.
    assert mcnemar(9900, 10100) == pytest.approx(math.erfc(199 / math.sqrt(2 * 20000)), rel=1e-3)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_wins_losses_and_difference():
    one = paired_difference(gqa("a", [1, 1, 0, 0]), gqa("b", [1, 0, 1, 1]), "gqa")
    assert (one.wins, one.losses, one.value, one.n) == ((2, 3), (1,), pytest.approx(25.0), 4)
    same = paired_difference(gqa("a", [1, 0, 1]), gqa("b", [1, 0, 1]), "gqa")
    assert (same.value, same.ci95, same.p_value, same.is_resolved) == (0.0, (0.0, 0.0), 1.0, False)


def test_pairing_narrows_the_interval():
    scores = np.random.default_rng(0).random(2000) < 0.6
    changed = scores.copy()
    changed[:20] = True
    base, other = gqa("a", scores), gqa("b", changed)
    one = paired_difference(base, other, "gqa")
    gain = 100.0 * (changed.sum() - scores.sum()) / 2000
    assert one.value == pytest.approx(gain)
    assert one.is_resolved
    low, high = one.ci95
    # Binomial spread of the questions that changed: 1.96 * sqrt(9) / 20 = 0.29; unpaired it would be 3.
    assert 0 < gain - low < 0.45
    assert 0 < high - gain < 0.45
    wide = run_score(base, "gqa").ci95
    assert wide[1] - wide[0] > 4


def test_mme_draws_images_and_adds_subtasks():
    def mme(name, right):
        rows = [("OCR", "1"), ("OCR", "1"), ("OCR", "2"), ("OCR", "2"), ("count", "1"), ("count", "1")]
        questions = [
            QuestionScore(f"{part}/{image}", "yes", ("Yes", "No")[place % 2], float(ok), part, image)
            for place, ((part, image), ok) in enumerate(zip(rows, right, strict=True))
        ]
        return run(name, "mme", questions)

    base, other = mme("a", [1, 1, 1, 0, 1, 1]), mme("b", [1, 1, 1, 1, 0, 1])
    assert run_score(base, "mme").value == 75 + 50 + 100 + 100
    assert run_score(other, "mme").value == 200 + 50
    one = paired_difference(base, other, "mme")
    assert one.value == -75
    assert (one.wins, one.losses) == (("OCR/2 (No)",), ("count/1 (Yes)",))


def test_mmbench_compares_questions_with_all_rotations():
    def mmbench(name, right):
        questions = [QuestionScore(i, "A", "A", float(ok), unit=str(i // 2)) for i, ok in enumerate(right)]
        return run(name, "mmbench", questions)

    one = paired_difference(mmbench("a", [1, 1, 1, 0]), mmbench("b", [0, 1, 1, 1]), "mmbench")
    assert (one.value, one.wins, one.losses) == (0.0, (2,), (0,))
    assert run_score(mmbench("a", [1, 1, 1, 0]), "mmbench").value == 50.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gqa", "gqa"),
        ("MM_Vet", "mm-vet"),
        ("dpn-7b_mmbench-cn", "mmbench-cn"),
        ("llava.mmbench.full", "mmbench"),
        ("scienceqa", "scienceqa-img"),
        ("answers", None),
        ("gqa-and-pope", None),
    ],
)
def test_benchmark_in_a_file_name(name, expected):
    assert benchmark_in_name(name) == expected
