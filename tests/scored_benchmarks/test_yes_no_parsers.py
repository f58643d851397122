"""POPE's and MME's yes and no, and GQA's exact match, with the answers that trip them."""

import pytest

from dpn_platform.benchmarks.gqa import benchmark as gqa
from dpn_platform.benchmarks.mme import benchmark as mme
from dpn_platform.benchmarks.pope import benchmark as pope


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No", "no"),
        ("no, there is not", "no"),
        ("No, it", "no"),
        ("There is not one", "no"),
        ("Yes. No", "yes"),  # only before the first full stop
        ("", "yes"),
        ("NO", "yes"),
        ("Nope", "yes"),
        ("No!", "yes"),
        ("nothing", "yes"),
        ("no\nyes", "yes"),  # words end at blanks alone
        ("Ｎo", "yes"),
        ("n,o", "no"),  # commas go before words are split
        (".no", "yes"),
    ],
)
def test_pope(text, expected):
    assert pope.parse_reference(text) == expected


@pytest.mark.parametrize(
    ("text", "reference", "harness"),
    [
        ("Yes", "yes", "yes"),
        ("NO.", "no", "no"),
        ("nothing", "no", "no"),
        ("not sure", "no", "no"),
        (" yes", "yes", "yes"),
        ("  yes", "other", "yes"),  # leading blanks push the word out
        (" yesno", "yes", "yes"),
        ("y", "other", "yes"),
        ("n", "other", "no"),
        (".y.", "other", "yes"),
        ("I do not know", "other", "other"),
        ("...no", "other", "no"),
        ("", "other", "other"),
        ("ｙes", "other", "other"),
    ],
)
def test_mme(text, reference, harness):
    assert (mme.parse_reference(text), mme.parse_harness(text)) == (reference, harness)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("a.b...", "a.b"),
        ("Yes. ", "yes. "),
        (" Yes", " yes"),
        ("T-Shirt", "t-shirt"),
        ("the cat", "the cat"),
        ("...", ""),
        ("", ""),
    ],
)
def test_gqa(text, expected):
    assert gqa.parse_reference(text) == expected


def test_gqa_of_the_harness_ignores_case_and_ascii_punctuation():
    assert gqa.fold_harness("T-Shirt!") == "tshirt"
    assert gqa.fold_harness("d’or") == "d’or"
