"""What questions about objects ask for, in the words of drawn sets, of converters and of others."""

from __future__ import annotations

import pytest

from dpn_platform.benchmarks.objects.tasks.wording import (
    asked_categories,
    asked_expression,
    region_names,
    told_number,
)
from tests.scored_benchmarks.objects.small_published import CANONICAL, group

DOG_AND_CAT = f"{group('dog', 0)}\n{group('cat')}"


@pytest.mark.parametrize(
    ("question", "gold", "wanted"),
    [
        ("<image>\ndetect red circle ; blue square", "", ("red circle", "blue square")),
        (CANONICAL.format("dog; cat"), DOG_AND_CAT, ("dog", "cat")),
        (CANONICAL.format("Dog; cat; dog."), "There is no such thing in this image", ("Dog", "cat")),
        (
            CANONICAL.format("one in this image, left"),
            group("one in this image, left", 0),
            ("one in this image, left",),
        ),
        # Other words: the gold answer has a group for everything that was asked.
        ("Locate every dog and cat.", DOG_AND_CAT, ("dog", "cat")),
        ("Detect every dog. Then each cat.", DOG_AND_CAT, ("dog", "cat")),
        ("Which animals do you see?", "none", ()),
    ],
)
def test_categories(question: str, gold: str, wanted: tuple[str, ...]) -> None:
    assert asked_categories(question, gold) == wanted


@pytest.mark.parametrize(
    ("question", "gold", "wanted"),
    [
        ("<image>\ndetect the left red circle", group("left red circle", 3), "the left red circle"),
        (CANONICAL.format("a man; the tall one"), "", "a man; the tall one"),
        ("Where is it?", group("the cup", 3), "the cup"),
        ("<image>\nWhere is  the cup?", "nowhere", "Where is the cup?"),
    ],
)
def test_expressions(question: str, gold: str, wanted: str) -> None:
    assert asked_expression(question, gold) == wanted


def test_names_of_regions() -> None:
    assert region_names("what is <obj3> ?", "red circle") == {3: "red circle"}
    both = f"{group('dog', 0)}; {group('cat', 2)}"
    assert region_names("What are <obj2>; <obj0>; <obj1>?", both) == {2: "cat", 0: "dog"}
    assert region_names("what is this ?", "dog") == {}
    assert region_names("what is <obj100> ?", "dog") == {}


def test_numbers_of_things() -> None:
    assert told_number("", f"two {group('dog', 0, 4)}") == "2"
    assert told_number("", f"Some {group('dog', 0, 4, 5)}") == "3"
    assert told_number("", group("dog")) == "0"
    assert told_number("", "I do not know") == ""
