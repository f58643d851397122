"""The demo set's questions: every answer follows from the scene, no family can be guessed, every word is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dpn_platform.demo.drawing import COLOURS, DIGITS, PLACES, SIDE, Item
from dpn_platform.demo.families import (
    FAMILIES,
    MAX_TURNS,
    NUMBERS,
    VISUAL_FAMILIES,
    VOCABULARY,
    DemoSample,
    draw_sample,
)
from dpn_platform.training.tiny_words import TINY_WORDS


def draw(family: str, count: int, **options: int | bool) -> list[DemoSample]:
    """`count` samples of a family, small pictures (the questions do not depend on the size)."""
    return [draw_sample(family, np.random.default_rng((7, number)), 48, **options) for number in range(count)]  # type: ignore[arg-type]


def words_of(samples: list[DemoSample]) -> set[str]:
    """Every word of every turn."""
    return {word for sample in samples for turn in sample.turns for word in " ".join(turn).split()}


def derive(question: str, items: tuple[Item, ...]) -> str:
    """The answer, worked out from the wording and the scene by other means than the families'."""
    match question.split():
        case ["is", "there", "anything", colour, "?"]:
            return "yes" if colour in [item.colour for item in items] else "no"
        case ["how", "many", shapes, "are", "there", "?"]:
            return NUMBERS[[f"{item.content}s" for item in items].count(shapes)]
        case ["what", "colour", "is", "at", place, "?"]:
            return _at(place, items).colour
        case ["which", "digit", "is", "at", place, "?"]:
            return NUMBERS[int(_at(place, items).content)]
        case ["where", "is", colour, "?"]:
            return PLACES[_only(colour, items).cell]
        case ["where", "is", first, "from", second, "?"]:
            return _seen_from(_only(first, items), _only(second, items))
        case ["what", "is", first, "plus", second, "?"]:
            return NUMBERS[NUMBERS.index(first) + NUMBERS.index(second)]
        case ["list", "everything", "."]:
            return " ".join(
                f"{place} {item.colour} {NUMBERS[int(item.content)] if item.content in DIGITS else item.content}"
                for place in PLACES
                for item in items
                if PLACES[item.cell] == place
            )
    raise AssertionError(f"no rule for {question!r}")


def _at(place: str, items: tuple[Item, ...]) -> Item:
    (found,) = [item for item in items if item.cell == ("abcd".index(place[0]) + SIDE * (int(place[1]) - 1))]
    return found


def _only(colour: str, items: tuple[Item, ...]) -> Item:
    (found,) = [item for item in items if item.colour == colour]
    return found


def _seen_from(first: Item, second: Item) -> str:
    across, down = first.cell % SIDE - second.cell % SIDE, first.cell // SIDE - second.cell // SIDE
    assert (across == 0) != (down == 0), "neither in one row nor in one column"
    return ("left" if across < 0 else "right") if across else ("above" if down < 0 else "below")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_follow_from_the_scene(family: str) -> None:
    for sample in draw(family, 300, num_turns=MAX_TURNS, caption=True):
        assert sample.family == family
        assert len(dict(sample.turns)) == len(sample.turns), "a question is asked twice"
        for question in sample.questions:
            assert derive(question.text, sample.items) == question.answer


@pytest.mark.parametrize(
    ("family", "guess"),
    [("existence", 0.5), ("counting", 0.2), ("relation", 0.25), ("colour", 1 / 6), ("reading", 0.1)],
)
def test_the_commonest_answer_is_no_more_common_than_chance(family: str, guess: float) -> None:
    answers = Counter(sample.questions[0].answer for sample in draw(family, 1500))
    assert max(answers.values()) / 1500 < guess + 4 * (guess * (1 - guess) / 1500) ** 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_and_answers_are_made_of_known_words(family: str) -> None:
    assert words_of(draw(family, 200, num_turns=4, caption=True)) <= set(VOCABULARY)


def test_the_vocabulary_has_no_word_twice_and_none_that_is_never_used() -> None:
    samples = [sample for family in FAMILIES for sample in draw(family, 200, num_turns=4, caption=True)]
    assert sorted(words_of(samples)) == VOCABULARY == list(TINY_WORDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_to_test_questions_are_one_word(family: str) -> None:
    assert all(len(sample.questions[0].answer.split()) == 1 for sample in draw(family, 50))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_is_a_pure_function_of_its_generator(family: str) -> None:
    first, again = draw(family, 5, num_turns=3), draw(family, 5, num_turns=3)
    assert [(s.questions, s.items) for s in first] == [(s.questions, s.items) for s in again]
    assert [s.image and s.image.tobytes() for s in first] == [s.image and s.image.tobytes() for s in again]


@pytest.mark.parametrize("family", VISUAL_FAMILIES)
def test_every_difficulty_occurs(family: str) -> None:
    counts = Counter(sample.difficulty for sample in draw(family, 300))
    assert set(counts) == {"easy", "medium", "hard"}
    assert min(counts.values()) >= 30


def test_only_arithmetic_has_no_picture() -> None:
    assert {family for family in FAMILIES if draw(family, 1)[0].image is None} == {"arithmetic"}


def test_things_have_cells_of_their_own_and_known_colours() -> None:
    for sample in (sample for family in VISUAL_FAMILIES for sample in draw(family, 100)):
        cells = [item.cell for item in sample.items]
        assert len(set(cells)) == len(cells)
        assert set(cells) <= set(range(SIDE * SIDE))
        assert {item.colour for item in sample.items} <= set(COLOURS)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError, match="smell"):
        draw("smell", 1)
