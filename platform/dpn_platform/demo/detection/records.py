"""Records of the detection set: a picture, the boxes that were proposed on it, what is true, and one question."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.demo.detection.questions import FAMILIES, ask
from dpn_platform.demo.detection.scenes import paint

#: records of each family among ten of the training split; the test split asks every family equally often
TRAIN_MIX = {"name": 2, "detect": 4, "refer": 1, "count": 2, "read": 1}
_MIX = tuple(family for family in FAMILIES for _ in range(TRAIN_MIX[family]))


def draw_record(seed: int, split: str, index: int) -> tuple[dict[str, Any], Image.Image]:
    """A record without `id` and `image`, and its picture; a pure function of its arguments."""
    rng = np.random.default_rng((seed, split == "test", index))
    families = tuple(FAMILIES) if split == "test" else _MIX
    family = families[index % len(families)]
    asked = ask(family, rng)
    scene, proposals = asked.scene, asked.proposals
    count = len(scene.boxes)
    return {
        "boxes": proposals.boxes.tolist(),
        "scores": proposals.scores.tolist(),
        "truth": {"boxes": scene.boxes.tolist(), "categories": scene.categories()},
        "conversations": [
            {"from": "human", "value": f"<image>\n{asked.question}"},
            {"from": "gpt", "value": asked.answer},
        ],
        "family": family,
        "difficulty": "easy" if count <= 2 else "medium" if count <= 4 else "hard",
    }, paint(scene, rng)
