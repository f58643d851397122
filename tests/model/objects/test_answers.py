"""Texts that name boxes, with spec chatrex 10.5 and 10.6."""

from __future__ import annotations

import random
import re

import pytest

from dpn_model.objects.answers import (
    ParsedAnswer,
    by_category,
    category_key,
    object_indices,
    parse_answer,
    plain_text,
    renumbered,
    tight,
    write_group,
)


@pytest.mark.parametrize(
    ("num_boxes", "text", "wanted"),
    [
        (
            51,
            "<ground>person</ground><objects><obj10><obj14></objects>\n"
            "<ground>pigeon</ground><objects><obj0><obj1></objects>",
            ParsedAnswer({"person": (10, 14), "pigeon": (0, 1)}),
        ),
        (
            12,
            "There is a <ground>couple.</ground><objects><obj9><obj11></objects> on a bench",
            ParsedAnswer({"couple.": (9, 11)}),
        ),
        (
            5,
            "<ground> dog </ground> <objects> <obj0> <obj0><obj7> </objects>",
            ParsedAnswer({"dog": (0,)}, duplicate=1, out_of_range=1),
        ),
        (5, "<ground>dog</ground><objects></objects>", ParsedAnswer({"dog": ()})),
        (5, "There is no such thing in this image", ParsedAnswer({})),
        (5, "<ground>dog</ground><objects><obj1><obj2>", ParsedAnswer({}, unclosed=1)),
        (1, "<obj0> shows a brown dog", ParsedAnswer({}, mentions=1)),
        (
            5,
            "<ground>dog</ground><objects><obj1></objects> and <ground>dog</ground><objects><obj3><obj1></objects>",
            ParsedAnswer({"dog": (1, 3)}, duplicate=1),
        ),
        (100, "<ground>dog</ground><objects><obj100><obj99></objects>", ParsedAnswer({"dog": (99,)}, out_of_range=1)),
    ],
)
def test_answers_of_the_specification(num_boxes: int, text: str, wanted: ParsedAnswer) -> None:
    parsed = parse_answer(text, num_boxes)
    assert parsed == wanted
    assert list(parsed.groups) == list(wanted.groups)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # A group that never ends leaves the next one alone, and its own indices count for nothing.
        (
            "<ground>dog</ground><objects><obj0> <obj1>\n<ground>cat</ground><objects><obj2></objects>",
            ParsedAnswer({"cat": (2,)}, unclosed=1),
        ),
        ("<ground>dog <ground>cat</ground><objects><obj2></objects>", ParsedAnswer({"cat": (2,)}, unclosed=1)),
        ("a <ground>dog</ground> beside <obj1>", ParsedAnswer({}, unclosed=1, mentions=1)),
        ("<objects><obj1></objects> alone", ParsedAnswer({}, unclosed=1)),
        ("<ground>a</ground> then <objects><obj1></objects>", ParsedAnswer({}, unclosed=2)),
        # Blanks and line breaks between and inside spans, words between indices, one index under two phrases.
        (
            "<ground>a\nb</ground>\n<objects><obj0>,\n<obj1></objects><ground>c</ground><objects><obj1></objects>",
            ParsedAnswer({"a\nb": (0, 1), "c": (1,)}),
        ),
        # What is no index: too long, not a number, negative.
        ("<ground>a</ground><objects><obj1000><objx><obj-1><obj2></objects>", ParsedAnswer({"a": (2,)})),
        # The order of an answer is kept; phrases that differ in case are told apart here.
        (
            "<ground>Dog</ground><objects><obj3><obj0></objects><ground>dog</ground><objects><obj0></objects>",
            ParsedAnswer({"Dog": (3, 0), "dog": (0,)}),
        ),
        ("", ParsedAnswer({})),
    ],
)
def test_answers_that_are_not_as_taught(text: str, wanted: ParsedAnswer) -> None:
    assert parse_answer(text, 5) == wanted


def test_all_boxes_of_an_answer() -> None:
    assert ParsedAnswer({"a": (3, 0), "b": (), "c": (1, 3)}).indices == (0, 1, 3)


def test_long_answers_are_read_in_one_go() -> None:
    """A reader that starts again at every tag would take minutes."""
    never_ends = "<ground>dog</ground><objects>" * 20_000
    assert parse_answer(never_ends, 5) == ParsedAnswer({}, unclosed=20_000)
    many = "<ground>a</ground><objects><obj1></objects> " * 20_000
    assert parse_answer(many, 5) == ParsedAnswer({"a": (1,)}, duplicate=19_999)


def test_what_is_written_is_read_back() -> None:
    draw = random.Random(0)
    for _ in range(50):
        groups = {
            f"thing {number}": tuple(sorted(draw.sample(range(100), draw.randrange(6))))
            for number in range(draw.randrange(5))
        }
        shuffled = {phrase: draw.sample(indices, len(indices)) for phrase, indices in groups.items()}
        text = "\n".join(write_group(phrase, indices) for phrase, indices in shuffled.items())
        assert parse_answer(text, 100) == ParsedAnswer(groups)
        assert set(object_indices(text)) == {index for indices in groups.values() for index in indices}


def test_a_written_group_is_ascending_and_may_be_empty() -> None:
    assert write_group(" red circle ", [4, 1, 4]) == "<ground>red circle</ground><objects><obj1><obj4></objects>"
    assert write_group("dog", []) == "<ground>dog</ground><objects></objects>"


@pytest.mark.parametrize(
    ("phrase", "indices", "told"),
    [
        ("", [1], "'' is no phrase of a group"),
        ("a <obj1>", [1], "'a <obj1>' is no phrase of a group: it is empty or holds a tag"),
        ("a</ground>", [1], "holds a tag"),
        ("dog", [0, 100], "<obj100> is no token; allowed: <obj0> to <obj99>"),
        ("dog", [-1], "<obj-1> is no token"),
    ],
)
def test_groups_that_could_not_be_read_back_are_refused(phrase: str, indices: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        write_group(phrase, indices)


def test_phrases_of_one_category() -> None:
    assert category_key(" Couple. ") == category_key("couple") == "couple"
    assert category_key("Stop sign !?") == "stop sign"
    assert category_key("bow (ribbon)") == "bow (ribbon)"
    groups = {"Dog": (3, 0), "cat": (), "dog.": (0, 2)}
    assert by_category(groups) == {"dog": (0, 2, 3), "cat": ()}


def test_indices_of_a_text() -> None:
    assert object_indices("<obj3>; <obj0>; <obj3> or <obj100><obj1234>?") == (3, 0, 100, 1234)
    assert object_indices("<objects></objects><objfeat><obj> obj3") == ()


def test_boxes_change_places_in_all_turns() -> None:
    answer = "<ground>dog</ground><objects><obj0><obj2></objects>"
    turns = [("What is <obj1>?", "<obj1> shows a cat"), ("Detect dog.", answer), ("And <obj2>?", None)]
    assert renumbered(turns, [2, 0, 1]) == [
        ("What is <obj2>?", "<obj2> shows a cat"),
        ("Detect dog.", "<ground>dog</ground><objects><obj0><obj1></objects>"),
        ("And <obj0>?", None),
    ]


def test_there_and_back_is_the_same_record() -> None:
    draw = random.Random(1)
    for _ in range(20):
        order = draw.sample(range(12), 12)
        back = [order.index(place) for place in range(12)]
        question = " or ".join(f"<obj{index}>" for index in draw.sample(range(12), 3))
        answer = "\n".join(write_group(name, draw.sample(range(12), 4)) for name in ("a", "b"))
        moved = renumbered([(question, answer)], order)
        (_, text), named = moved[0], parse_answer(answer, 12)
        for phrase, indices in parse_answer(text, 12).groups.items():
            assert sorted(order[index] for index in indices) == list(named.groups[phrase])
            assert list(indices) == sorted(indices)
        assert renumbered(moved, back) == [(question, answer)]


def test_indices_are_sorted_as_numbers_inside_of_each_group() -> None:
    text = "<ground>a</ground><objects> <obj0>, <obj1> </objects><ground>b</ground><objects><obj2></objects>"
    order = [*range(2, 11), 1, 0]
    wanted = "<ground>a</ground><objects> <obj9>, <obj10> </objects><ground>b</ground><objects><obj0></objects>"
    assert renumbered([(text, "")], order) == [(wanted, "")]


def test_boxes_that_are_named_must_be_in_the_new_order() -> None:
    assert renumbered([("<obj4>", "yes")], [4, 2]) == [("<obj0>", "yes")]
    with pytest.raises(ValueError, match=re.escape("<obj3> is named but is none of the 2 boxes of the new order")):
        renumbered([("<obj3>", "")], [4, 2])
    with pytest.raises(ValueError, match="box 4 stands more than once in the new order"):
        renumbered([("", "")], [4, 2, 4])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<ground>brown dog</ground><objects><obj3></objects>", "brown dog"),
        (
            "<ground>a dog</ground><objects><obj0></objects>\n<ground>cat</ground><objects><obj1></objects>",
            "a dog cat",
        ),
        ("<obj0> shows a  brown dog.", "shows a brown dog."),
        ("a <ground>dog</ground><objects><obj0> and more", "a dog and more"),
        ("a < b", "a < b"),
    ],
)
def test_words_of_an_answer(text: str, wanted: str) -> None:
    assert plain_text(text) == wanted


def test_blanks_at_tags_are_a_tokenizers() -> None:
    written = "two <ground>red  circle</ground><objects><obj1><obj12></objects>\n<ground>a</ground><objects></objects>"
    decoded = "two <ground> red  circle </ground> <objects> <obj1> <obj12> </objects> "
    decoded += "<ground> a </ground> <objects> </objects>"
    assert tight(decoded) == tight(written)
    assert tight(written).startswith("two<ground>red  circle</ground><objects><obj1><obj12></objects><ground>a")
    assert tight("1 < 2 and <b> c") == "1 < 2 and <b> c"
