"""Letters from free answers: ScienceQA, MMBench, SEED and MMMU, with the answers that trip them."""

import pytest

from dpn_platform.benchmarks.mmbench.letter_inference import infer_letter
from dpn_platform.benchmarks.mmmu.parser import (
    normalise_open,
    open_is_correct,
    parse_choice,
    parse_open,
    random_letter,
)
from dpn_platform.benchmarks.scienceqa.benchmark import parse_harness, parse_llava_hr, parse_reference

OPTIONS = {"A": "red apple", "B": "blue", "C": "cat", "D": "Big"}


@pytest.mark.parametrize(
    ("text", "reference", "llava_hr", "harness"),
    [
        ("A", "A", "A", "A"),
        ("b", "FAILED", "FAILED", "B"),
        ("B. No", "B", "B", "B"),
        ("B.", "FAILED", "FAILED", "B"),
        ("B.No", "FAILED", "B", "B"),
        ("Because it is", "FAILED", "B", "FAILED"),
        ("B) No", "FAILED", "B", "FAILED"),
        ("The answer is C.", "C", "C", "FAILED"),
        ("The answer is C", "FAILED", "FAILED", "FAILED"),  # one more character is needed
        ("The answer is A. The answer is B.", "FAILED", "FAILED", "FAILED"),
        ("The answer is F.", "F", "F", "FAILED"),
        (" A", "FAILED", "FAILED", "A"),
        ("A\n", "FAILED", "FAILED", "A"),
        ("F", "FAILED", "FAILED", "F"),
        ("", "FAILED", "FAILED", "FAILED"),
        ("Ａ", "FAILED", "FAILED", "FAILED"),  # full width
        ("The answer is B\n", "FAILED", "FAILED", "FAILED"),  # the one character is no newline
    ],
)
def test_scienceqa(text, reference, llava_hr, harness):
    assert (parse_reference(text), parse_llava_hr(text), parse_harness(text)) == (reference, llava_hr, harness)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        ("B. No", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("b", None),
        ("A or B", None),  # two letters
        ("A", "A"),
        ("A man rides the horse over there", None),  # a letter further than four words from the end is a word
        ("A cat", "A"),  # ... within them it is a letter
        ("The blue one", "B"),  # the single option named
        ("blue cat", None),
        ("The correct answer is **C** because A and B are wrong", "C"),
        ("The answer is E", None),
        ("Z", "Z"),
        ("Cannot determine the answer", "Z"),
        ("Sorry, I can't help with images of people yet. B", "Z"),
        ("Failed to obtain answer via API: B", None),
        ("Failed to obtain answer via API blue", "B"),
        ("blue " * 20, None),  # too long beside the options
        ("Ｂ", None),
        ("", None),
    ],
)
def test_mmbench(text, expected):
    assert infer_letter(text, OPTIONS) == expected


def test_mmbench_letters_are_those_of_the_question():
    assert infer_letter("C", {"A": "yes", "B": "no"}) is None
    assert infer_letter("The answer is C", {"A": "yes", "B": "no"}) is None
    assert infer_letter("Failed to obtain answer via API: a long red apple", {"A": "x" * 40, "B": "red apple"}) == "B"


@pytest.mark.parametrize(
    ("text", "reference", "harness"),
    [
        ("B", "B", "B"),
        ("B.", "B", "B"),
        ("(B)", "B", "B"),
        ("(A) or (C)", "C", "C"),
        ("A or C", "C", "C"),
        ("A (B) C", "B", "B"),  # brackets win
        ("B. No", None, "B"),
        ("A) x", None, None),
        ("the DNA is long", None, "A"),
        ("I think that it is the cat there", "C", "C"),  # more than five words: an option's text
        ("it is the cat", None, None),
        ("first a cat and then something blue", "B", "B"),
        ("b", None, None),
        ("E", None, None),
        ("", None, None),
        ("'B'", "B", "B"),
        ("., B", "B", "B"),
    ],
)
def test_mmmu_choice(text, reference, harness):
    for loose, expected in ((False, reference), (True, harness)):
        letter, is_random = parse_choice(text, OPTIONS, "validation_Art_1", loose=loose)
        assert (None if is_random else letter) == expected


def test_mmmu_fallback_depends_on_the_question_alone():
    letters = {question: random_letter("ABCD", f"validation_Art_{question}") for question in range(40)}
    assert letters == {question: random_letter("ABCD", f"validation_Art_{question}") for question in range(40)}
    assert set(letters.values()) == set("ABCD")


@pytest.mark.parametrize(
    ("text", "gold", "correct"),
    [
        ("The answer is 5.", "5", True),
        ("5.004", "5", True),  # two decimals
        ("5.006", "5", False),
        ("1,234", "1234", True),
        ("x = 2.5e3", "2500", True),
        ("It is a mitral valve.", "mitral valve", True),
        ("mitral", "mitral valve", False),
        ("-7", "7", False),
        ("so it is 3\ntherefore 4", "3", True),  # a phrase of each line
        ("y=3\nno", "3", True),  # no phrase at all: the whole answer
        ("y=3 so 5\nno", "3", False),
        ("24/7", ["24/7", "3.429"], True),
        ("a", "A", True),  # a single letter meets itself with the same blank
        ("apple", "a", False),
        ("an apple a", "a", True),
        ("it is a b", "b", True),
        ("", "5", False),
        (".", "5", False),
    ],
)
def test_mmmu_open(text, gold, correct):
    assert open_is_correct(parse_open(text), gold) is correct


def test_mmmu_open_normalisation():
    assert normalise_open(" 1,000.456 ") == [1000.46]
    assert normalise_open("A") == [" a", "a "]
    assert normalise_open("Two Words") == ["two words"]
    assert set(parse_open("Sentence one. So the result is 12.")) == {"12", 12.0} - {"12"}
