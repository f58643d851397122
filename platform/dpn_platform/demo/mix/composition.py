"""What the 665K mix consists of: its parts, how many records each has, and how their images and texts look.

Records, folders and format prompts are counted facts (spec base-models B.4, performance 4.1), as are the image
sizes in pixels and bytes. Turns follow from published question counts (VQAv2 443,757 questions on 82,783 images, GQA
943,000 on 72,140); words per turn are estimates, and so are the turns of the parts for which no count is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOTAL_ROWS = 665_298
SHORT_ANSWER = "Answer the question using a single word or phrase."
OPTION_LETTER = "Answer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
REGION = "Please provide a short description for this region:"
BOX = "Please provide the bounding box coordinate of the region this sentence describes:"


@dataclass(frozen=True)
class Part:
    """One part of the mix.

    Attributes:
        name: of the source.
        records: in the whole mix.
        folders: image folders, one after the other; empty for text only.
        size: typical (width, height) of its images in pixels.
        kilobytes: typical size of its JPEG files.
        records_per_image: records that share an image, on average.
        turns: mean number of question/answer pairs.
        words: mean words of a (question, answer).
        prompt: format prompt that ends its questions.
    """

    name: str
    records: int
    folders: tuple[str, ...]
    size: tuple[int, int]
    kilobytes: int
    records_per_image: int
    turns: float
    words: tuple[float, float]
    prompt: str = ""

    @property
    def bytes_per_pixel(self) -> float:
        """Of its JPEG files."""
        return self.kilobytes * 1000 / (self.size[0] * self.size[1])


_COCO = ("coco/train2017",)
_PHOTO = (640, 480)

PARTS = (
    Part("llava_instruct", 157_712, _COCO, _PHOTO, 163, 3, 2.3, (11, 60)),
    Part("sharegpt", 40_688, (), (0, 0), 0, 1, 3.5, (60, 180)),
    Part("vqav2", 82_783, _COCO, _PHOTO, 163, 3, 5.4, (6, 1), SHORT_ANSWER),
    Part("gqa", 72_140, ("gqa/images",), (500, 375), 138, 1, 13.1, (8, 1), SHORT_ANSWER),
    Part("okvqa", 8_998, _COCO, _PHOTO, 163, 3, 1.0, (8, 1), SHORT_ANSWER),
    Part("ocr_vqa", 80_000, ("ocr_vqa/images",), (330, 500), 30, 1, 5.0, (6, 4), SHORT_ANSWER),
    Part("aokvqa", 66_160, _COCO, _PHOTO, 163, 3, 1.0, (22, 1), OPTION_LETTER),
    Part("textcaps", 21_953, ("textvqa/train_images",), (1024, 768), 250, 1, 1.0, (4, 12), CAPTION),
    Part("refcoco", 48_447, _COCO, _PHOTO, 163, 3, 8.0, (9, 4), REGION),
    Part("vg", 86_417, ("vg/VG_100K", "vg/VG_100K_2"), (500, 375), 138, 1, 9.0, (9, 5), BOX),
)


def part_sizes(rows: int) -> list[int]:
    """Records of every part in a set of `rows`: in proportion, rounded so that they add up to `rows`."""
    exact = [rows * part.records / TOTAL_ROWS for part in PARTS]
    sizes = [int(value) for value in exact]
    by_remainder = sorted(range(len(PARTS)), key=lambda index: sizes[index] - exact[index])
    for index in by_remainder[: rows - sum(sizes)]:
        sizes[index] += 1
    return sizes


def draw_turns(part: Part, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(question, answer) pairs of lengths that scatter around the part's means."""
    number = 1 + int(rng.poisson(part.turns - 1))
    return [_draw_turn(part, rng) for _ in range(number)]


def _draw_turn(part: Part, rng: np.random.Generator) -> tuple[str, str]:
    question, answer = (_words(mean, rng) for mean in part.words)
    if part.prompt in (REGION, BOX) and rng.random() < 0.5:
        return f"{REGION} {_box(rng)}.", answer
    if part.prompt in (REGION, BOX):
        return f"{BOX} {question}", f"{_box(rng)}"
    if part.prompt == OPTION_LETTER:
        answer = "ABCD"[int(rng.integers(4))]
    return (f"{question}?\n{part.prompt}" if part.prompt else f"{question}?"), answer


def _words(mean: float, rng: np.random.Generator) -> str:
    """A one-word mean stays one word; longer texts are log-normal, as text lengths are."""
    number = 1 if mean <= 1 else max(1, round(float(rng.lognormal(np.log(mean) - 0.18, 0.6))))
    return " ".join(_VOCABULARY[index] for index in rng.integers(len(_VOCABULARY), size=number))


def _box(rng: np.random.Generator) -> str:
    """[x1, y1, x2, y2], normalised to 0-1 with two decimals."""
    (left, right), (top, bottom) = (np.sort(rng.random(2)) for _ in range(2))
    return f"[{left:.2f}, {top:.2f}, {right:.2f}, {bottom:.2f}]"


_VOCABULARY: Sequence[str] = (
    "the a of on in with and is to what which where how many man woman person people dog cat horse street car "
    "bus train table plate food pizza water beach sky tree grass building window door sign shirt hat wearing holding "
    "standing sitting riding walking looking near behind front left right large small red blue green white black brown "
    "yellow wooden metal color kind type activity image picture background foreground several appears scene possible "
    "weather describe explain because however suggests environment interesting playing tennis baseball player ball"
).split()
