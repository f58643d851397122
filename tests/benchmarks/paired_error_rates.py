"""Paired comparison at the benchmarks' real sizes, and its error rates on simulated runs. Not collected; run by hand:

python tests/benchmarks/paired_error_rates.py
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.benchmarks.statistics.paired import paired_difference
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, read_runs
from dpn_platform.reports.comparison.runs import compare_runs

SIZES = {"vqav2": 107394, "gqa": 12578, "scienceqa-img": 2017, "textvqa": 5000, "mm-vet": 218, "seed-image": 14233}
SIMULATIONS, QUESTIONS = 400, 1000


def simulated(generator, shift):
    """Two runs that share how hard a question is; `shift` is the second one's true gain."""
    hardness, noise = generator.random(QUESTIONS), generator.random((2, QUESTIONS))
    right = [0.7 * hardness + 0.3 * noise[run] < 0.6 + shift * run for run in range(2)]
    questions = [{("", str(i)): QuestionScore(i, "", "", float(ok)) for i, ok in enumerate(of_run)} for of_run in right]
    return [ScoredRun(str(run), "", {"gqa": of_run}) for run, of_run in enumerate(questions)]


def error_rates():
    """Share of intervals that miss the truth and of p-values below 5%, for equal runs and for a real gain."""
    generator = np.random.default_rng(0)
    hard, noise = generator.random(4_000_000), generator.random((2, 4_000_000))
    for shift in (0.0, 0.02):
        truth = 100 * float(
            (0.7 * hard + 0.3 * noise[1] < 0.6 + shift).mean() - (0.7 * hard + 0.3 * noise[0] < 0.6).mean()
        )
        missed = below = 0
        for seed in range(SIMULATIONS):
            one = paired_difference(*simulated(generator, shift), "gqa", seed)
            missed += not one.ci95[0] <= truth <= one.ci95[1]
            below += one.p_value < 0.05
        print(
            f"true gain {truth:+.2f}: 95% interval misses it in {100 * missed / SIMULATIONS:.1f}%, "
            f"p < 0.05 in {100 * below / SIMULATIONS:.1f}% of {SIMULATIONS} simulated pairs"
        )


def real_sizes():
    """Seconds to read and to compare two runs."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for run in ("a", "b"):
            (Path(folder) / run).mkdir()
            for name, size in SIZES.items():
                scores = generator.choice([0.0, 0.3, 0.6, 0.9, 1.0] if "vqa" in name else [0.0, 1.0], size)
                lines = (
                    json.dumps({"id": i, "parsed": "x", "gold": ["x"] * 10, "score": float(score)})
                    for i, score in enumerate(scores)
                )
                (Path(folder) / run / f"{name}.jsonl").write_text("\n".join(lines))
        started = time.perf_counter()
        runs = read_runs([f"{folder}/a", f"{folder}/b"])
        read = time.perf_counter()
        compare_runs(runs)
        total = sum(SIZES.values())
        print(f"two runs of {total:,} questions: read in {read - started:.1f} s, ", end="")
        print(f"compared in {time.perf_counter() - read:.1f} s")


if __name__ == "__main__":
    error_rates()
    real_sizes()
