"""Soft accuracy and the three evaluators."""

import pytest

from dpn_platform.benchmarks.vqa.metric import (
    grade_harness,
    grade_official,
    grade_submitted,
    grade_textvqa,
    soft_accuracy,
)


@pytest.mark.parametrize(("matching", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_closed_form_of_ten_humans(matching, expected):
    humans = ["x"] * matching + [f"other {i}" for i in range(10 - matching)]
    assert soft_accuracy("x", humans) == pytest.approx(expected, abs=1e-12)
    # By the definition: each human left out in turn, by place.
    by_definition = [min(1, sum(humans[j] == "x" for j in range(10) if j != i) / 3) for i in range(10)]
    assert soft_accuracy("x", humans) == pytest.approx(sum(by_definition) / 10, abs=1e-12)


def test_unanimous_humans_are_compared_as_typed_by_the_official_program():
    assert grade_official("Yes", ["yes"] * 10).score == 0
    assert grade_official(" yes\n", ["yes"] * 10).score == 1
    assert grade_submitted("Yes", ["yes"] * 10).score == 1
    assert grade_harness("Yes", ["yes"] * 10).score == 1
    # One dissenting human switches the normalisation on.
    assert grade_official("Yes", ["yes"] * 9 + ["no"]).score == 1


def test_normalised_answer_can_lose_against_unanimous_humans():
    # The server compares raw: what normaliser B took from the answer is missed in the humans' words.
    assert grade_submitted("the dog", ["the dog"] * 10).score == 0
    assert grade_official("the dog", ["the dog"] * 10).score == 1
    assert grade_textvqa("the dog", ["the dog"] * 10).score == 1


def test_humans_that_agree_after_white_space_are_unanimous():
    humans = ["red"] * 5 + ["red\n"] * 5
    assert grade_official("Red", humans).score == 0


def test_textvqa_normalises_both_sides_always():
    assert grade_textvqa("Joe's", ["joe 's"] * 4 + ["x"] * 6) == ("joe 's", 1.0)
    assert grade_harness("Joe's", ["joe 's"] * 4 + ["x"] * 6).score == 0
    assert grade_textvqa("", ["", "the", "a"] + ["x"] * 7).score == pytest.approx(0.9)
