"""The soft VQA accuracy: agreement with ten humans, each left out in turn. Three evaluators that differ.

Source: spec benchmarks 2.1 and 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dpn_platform.benchmarks.vqa.normaliser import normalise_textvqa, normalise_vqa, one_line


class Graded(NamedTuple):
    """An answer as it was compared, and its score between 0 and 1."""

    answer: str
    score: float


Evaluator = Callable[[str, Sequence[str]], Graded]


def soft_accuracy(answer: str, humans: Sequence[str]) -> float:
    """Mean over the humans of min(1, matches among the others / 3); who is left out is told by place, not by text."""
    matches = sum(human == answer for human in humans)
    if matches == 0:
        return 0.0
    agreeing = matches * min(1.0, (matches - 1) / 3)
    others = (len(humans) - matches) * min(1.0, matches / 3)
    return (agreeing + others) / len(humans)


def grade_official(answer: str, humans: Sequence[str]) -> Graded:
    """Evaluator A, the VQA server's: normalises only where the humans disagree; else compares as typed."""
    answer, humans = one_line(answer), [one_line(human) for human in humans]
    if len(set(humans)) > 1:
        answer, humans = normalise_vqa(answer), [normalise_vqa(human) for human in humans]
    return Graded(answer, soft_accuracy(answer, humans))


def grade_submitted(answer: str, humans: Sequence[str]) -> Graded:
    """What LLaVA's numbers are: the answer goes through normaliser B before it is sent to the server (A)."""
    return grade_official(normalise_textvqa(answer), humans)


def grade_textvqa(answer: str, humans: Sequence[str]) -> Graded:
    """Evaluator B: normaliser B on both sides, always."""
    answer = normalise_textvqa(answer)
    return Graded(answer, soft_accuracy(answer, [normalise_textvqa(human) for human in humans]))


def grade_harness(answer: str, humans: Sequence[str]) -> Graded:
    """Evaluator C, lmms-eval's for VQAv2: P+D on both sides, always."""
    answer = normalise_vqa(one_line(answer))
    return Graded(answer, soft_accuracy(answer, [normalise_vqa(one_line(human)) for human in humans]))
