"""What is asked about a scene of the detection set, one question a record, and its answer in numbers of boxes.

Families: name (what a box shows), detect (all boxes of some kinds), refer (one of several alike), count, and read (a
digit that no box is on). The first four answer from objects, the last from the picture alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpn_model.objects.answers import write_group
from dpn_platform.demo.detection.scenes import COLOURS, SHAPES, Proposals, Scene, draw_scene, propose
from dpn_platform.demo.families import NUMBERS

#: what a box shows that is on no object
NOTHING = "nothing"
#: how often a question of 1 to 3 kinds asks for one that is not there
_ABSENT_SHARE = 0.4
#: by which the middles of two alike must differ, in pixels, for one of them to be the left one
_CLEARLY = 12
_WORDS = "what is detect the left right how many which digit there ; ?"
#: every word of the set, those of the tiny base's vocabulary
WORDS = tuple(sorted({*_WORDS.split(), *COLOURS, *SHAPES, *NUMBERS[:7], *map(str, range(10)), NOTHING}))


@dataclass(frozen=True)
class Asked:
    """A scene, what was proposed on it, and a question about both."""

    scene: Scene
    proposals: Proposals
    question: str
    answer: str


def ask(family: str, rng: np.random.Generator) -> Asked:
    """A question of that family about a scene of its own.

    Raises:
        KeyError: unknown family.
    """
    while True:
        scene = draw_scene(rng)
        proposals = propose(scene, rng)
        found = FAMILIES[family](scene, proposals, rng)
        if found is not None:
            return Asked(scene, proposals, *found)


def _boxes_of(scene: Scene, proposals: Proposals, category: str) -> list[int]:
    names = scene.categories()
    return [place for place, thing in enumerate(proposals.objects.tolist()) if thing >= 0 and names[thing] == category]


def _name(scene: Scene, proposals: Proposals, rng: np.random.Generator) -> tuple[str, str]:
    """A box on an object three times out of four."""
    on_object = np.flatnonzero(proposals.objects >= 0)
    others = np.flatnonzero(proposals.objects < 0)
    chosen = others if len(others) and rng.random() < 0.25 else on_object
    place = int(rng.choice(chosen))
    thing = int(proposals.objects[place])
    return f"what is <obj{place}> ?", NOTHING if thing < 0 else scene.categories()[thing]


def _detect(scene: Scene, proposals: Proposals, rng: np.random.Generator) -> tuple[str, str]:
    here = sorted(set(scene.categories()))
    asked = [str(one) for one in rng.permutation(here)[: int(rng.integers(1, min(3, len(here)) + 1))]]
    if rng.random() < _ABSENT_SHARE:
        asked[int(rng.integers(len(asked)))] = _absent(here, rng)
    groups = [write_group(category, _boxes_of(scene, proposals, category)) for category in asked]
    return f"detect {' ; '.join(asked)}", "\n".join(groups)


def _absent(here: list[str], rng: np.random.Generator) -> str:
    """A kind that is not there, of a colour or a shape that is."""
    kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    near = [kind for kind in kinds if kind not in here and any({*kind.split()} & {*one.split()} for one in here)]
    return str(rng.choice(near))


def _refer(scene: Scene, proposals: Proposals, rng: np.random.Generator) -> tuple[str, str] | None:
    names = scene.categories()
    middles = (scene.boxes[:, 0] + scene.boxes[:, 2]) / 2
    for category in sorted({name for name in names if names.count(name) == 2}):
        alike = [place for place, name in enumerate(names) if name == category]
        if abs(middles[alike[0]] - middles[alike[1]]) >= _CLEARLY:
            side = int(rng.integers(2))
            thing = sorted(alike, key=lambda place: middles[place])[side]
            box = int(np.flatnonzero(proposals.objects == thing)[0])
            which = f"{('left', 'right')[side]} {category}"
            return f"detect the {which}", write_group(which, [box])
    return None


def _count(scene: Scene, proposals: Proposals, rng: np.random.Generator) -> tuple[str, str]:
    here = sorted(set(scene.categories()))
    category = _absent(here, rng) if rng.random() < 0.2 else str(rng.choice(scene.categories()))
    boxes = _boxes_of(scene, proposals, category)
    return f"how many {category} ?", f"{NUMBERS[len(boxes)]} {write_group(category, boxes)}"


def _read(scene: Scene, proposals: Proposals, rng: np.random.Generator) -> tuple[str, str]:
    return "which digit is there ?", scene.digit


FAMILIES: dict[str, Callable[[Scene, Proposals, np.random.Generator], tuple[str, str] | None]] = {
    "name": _name,
    "detect": _detect,
    "refer": _refer,
    "count": _count,
    "read": _read,
}
