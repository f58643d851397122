"""Question families of the demo set: what is asked about a scene, and what is true.

Families differ in how much fine detail they need, so that pooling visual tokens hurts some and not others: existence
needs a glance, reading needs strokes. A sample is a pure function of its generator. Its first question belongs to its
family; further turns ask about the same scene, as LLaVA's instruction data do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dpn_platform.demo.drawing import COLOURS, DIGITS, PLACES, SHAPES, SIDE, Item, draw_items

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_TURNS = 8


@dataclass(frozen=True)
class Question:
    """A question with its one-word answer, the family it tests and how hard this instance is."""

    text: str
    answer: str
    family: str
    difficulty: str


@dataclass(frozen=True)
class DemoSample:
    """One record: a picture (None for text-only), its questions (the first decides the family), and the scene."""

    image: Image.Image | None
    questions: tuple[Question, ...]
    items: tuple[Item, ...]

    @property
    def family(self) -> str:
        """Family of the first question."""
        return self.questions[0].family

    @property
    def difficulty(self) -> str:
        """Difficulty of the first question."""
        return self.questions[0].difficulty

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """(question, answer) in the order of asking."""
        return tuple((question.text, question.answer) for question in self.questions)


def draw_sample(
    family: str, rng: np.random.Generator, image_size: int = 96, num_turns: int = 1, *, caption: bool = False
) -> DemoSample:
    """A sample of `family` with up to `num_turns` questions about one scene, and a caption as the last turn if asked.

    Raises:
        KeyError: unknown family.
    """
    scene, ask = _MAKERS[family]
    items = scene(rng)
    question = ask(rng, items)
    assert question is not None, family
    questions = [question]
    for _ in range(3 * num_turns if items else 0):
        if len(questions) == num_turns:
            break
        more = _FOLLOW_UPS[int(rng.integers(len(_FOLLOW_UPS)))](rng, items)
        if more is not None and more.text not in {question.text for question in questions}:
            questions.append(more)
    if caption and items:
        ordered = sorted(items, key=lambda item: item.cell)
        things = " ".join(f"{PLACES[item.cell]} {item.colour} {_word(item)}" for item in ordered)
        questions.append(Question("list everything .", things, "caption", _level(len(items), 2, 4)))
    image = draw_items(items, rng, image_size) if items else None
    return DemoSample(image, tuple(questions), items)


def _level(value: int, easy: int, medium: int) -> str:
    return "easy" if value <= easy else "medium" if value <= medium else "hard"


def _one(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _cells(rng: np.random.Generator, count: int) -> list[int]:
    return [int(cell) for cell in rng.permutation(len(PLACES))[:count]]


def _shapes_scene(rng: np.random.Generator, low: int, high: int) -> tuple[Item, ...]:
    cells = _cells(rng, int(rng.integers(low, high + 1)))
    return tuple(Item(cell, _one(rng, SHAPES), _one(rng, COLOURS)) for cell in cells)


def _ask_existence(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    """Yes and no equally often, whatever the scene."""
    present = {item.colour for item in items}
    is_there = bool(rng.integers(2))
    pool = tuple(colour for colour in COLOURS if (colour in present) == is_there)
    if not pool:
        return None
    answer = "yes" if is_there else "no"
    return Question(f"is there anything {_one(rng, pool)} ?", answer, "existence", _level(len(items), 2, 3))


def _counting_scene(rng: np.random.Generator) -> tuple[Item, ...]:
    """The first item's shape is the one to count, so that the counts one to five are equally likely."""
    shape, wanted = _one(rng, SHAPES), int(rng.integers(1, 6))
    others = tuple(other for other in SHAPES if other != shape)
    cells = _cells(rng, wanted + int(rng.integers(0, 4)))
    contents = [shape if number < wanted else _one(rng, others) for number in range(len(cells))]
    return tuple(Item(cell, content, _one(rng, COLOURS)) for cell, content in zip(cells, contents, strict=True))


def _ask_counting(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    if items[0].content not in SHAPES:
        return None
    shape = items[0].content
    count = sum(item.content == shape for item in items)
    return Question(f"how many {shape}s are there ?", NUMBERS[count], "counting", _level(count, 2, 3))


def _ask_colour(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    item = items[int(rng.integers(len(items)))]
    question = f"what colour is at {PLACES[item.cell]} ?"
    return Question(question, item.colour, "colour", _level(len(items), 3, 5))


def _relation_scene(rng: np.random.Generator) -> tuple[Item, ...]:
    """All colours differ, and the first two items share a row or a column."""
    first, second = _cells(rng, 2)
    while first // SIDE != second // SIDE and first % SIDE != second % SIDE:
        first, second = _cells(rng, 2)
    free = [cell for cell in _cells(rng, len(PLACES)) if cell not in (first, second)]
    cells = [first, second, *free[: int(rng.integers(0, 3))]]
    colours = rng.permutation(len(COLOURS))
    return tuple(Item(cell, _one(rng, SHAPES), tuple(COLOURS)[colours[n]]) for n, cell in enumerate(cells))


def _ask_place(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    """Where the only thing of its colour is."""
    unique = _of_unique_colour(items)
    if not unique:
        return None
    item = unique[int(rng.integers(len(unique)))]
    return Question(f"where is {item.colour} ?", PLACES[item.cell], "place", _level(len(items), 2, 4))


def _of_unique_colour(items: tuple[Item, ...]) -> list[Item]:
    colours = Counter(item.colour for item in items)
    return [item for item in items if colours[item.colour] == 1]


def _ask_relation(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    """About two things in one row or column whose colours nothing else has."""
    unique = _of_unique_colour(items)
    pairs = [(first, second) for first in unique for second in unique if direction(first, second)]
    if not pairs:
        return None
    first, second = pairs[int(rng.integers(len(pairs)))]
    question = f"where is {first.colour} from {second.colour} ?"
    return Question(question, str(direction(first, second)), "relation", _level(len(items), 2, 3))


def direction(first: Item, second: Item) -> str | None:
    """Where `first` is, seen from `second`; None unless they share a row or a column."""
    (row, column), (other_row, other_column) = divmod(first.cell, SIDE), divmod(second.cell, SIDE)
    if row == other_row and column != other_column:
        return "left" if column < other_column else "right"
    if column == other_column and row != other_row:
        return "above" if row < other_row else "below"
    return None


def _reading_scene(rng: np.random.Generator) -> tuple[Item, ...]:
    """One to four digits, and up to two shapes between them."""
    digits = int(rng.integers(1, 5))
    cells = _cells(rng, digits + int(rng.integers(3)))
    contents = [_one(rng, tuple(DIGITS) if number < digits else SHAPES) for number in range(len(cells))]
    return tuple(Item(cell, content, _one(rng, COLOURS)) for cell, content in zip(cells, contents, strict=True))


def _ask_reading(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    digits = [item for item in items if item.content in DIGITS]
    if not digits:
        return None
    item = digits[int(rng.integers(len(digits)))]
    return Question(f"which digit is at {PLACES[item.cell]} ?", _word(item), "reading", _level(len(digits), 1, 2))


def _word(item: Item) -> str:
    return NUMBERS[int(item.content)] if item.content in DIGITS else item.content


def _ask_arithmetic(rng: np.random.Generator, items: tuple[Item, ...]) -> Question | None:
    total = int(rng.integers(10))
    first = int(rng.integers(total + 1))
    question = f"what is {NUMBERS[first]} plus {NUMBERS[total - first]} ?"
    return Question(question, NUMBERS[total], "arithmetic", _level(total, 3, 6))


Scene = Callable[[np.random.Generator], tuple[Item, ...]]
Ask = Callable[[np.random.Generator, tuple[Item, ...]], Question | None]
_MAKERS: dict[str, tuple[Scene, Ask]] = {
    "existence": (lambda rng: _shapes_scene(rng, 1, 4), _ask_existence),
    "counting": (_counting_scene, _ask_counting),
    "colour": (lambda rng: _shapes_scene(rng, 2, 6), _ask_colour),
    "relation": (_relation_scene, _ask_relation),
    "reading": (_reading_scene, _ask_reading),
    "arithmetic": (lambda rng: (), _ask_arithmetic),
}
#: weights measured: with less of existence and places, finding a thing by its colour is not learned for 1500 steps
_FOLLOW_UPS: tuple[Ask, ...] = (
    _ask_existence,
    _ask_existence,
    _ask_counting,
    _ask_counting,
    _ask_colour,
    _ask_place,
    _ask_place,
    _ask_relation,
    _ask_relation,
    _ask_reading,
)
#: families about a picture, from the least to the most fine detail; arithmetic is the text-only one
VISUAL_FAMILIES = ("existence", "counting", "relation", "colour", "reading")
FAMILIES = (*VISUAL_FAMILIES, "arithmetic")
VOCABULARY = sorted(
    {
        *NUMBERS,
        *COLOURS,
        *SHAPES,
        *(f"{shape}s" for shape in SHAPES),
        *PLACES,
        *"is there anything ? how many are what colour at where from which digit plus list everything .".split(),
        *"yes no above below left right".split(),
    }
)
