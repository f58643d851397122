"""What determines a demo set, and where it lies unless the user says otherwise. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

DEMO_RAW_URI = "s3://dpn/raw/demo"
DEMO_URI = "s3://dpn/datasets/demo"
DETECTION_URI = "s3://dpn/datasets/demo-detection"
DemoKind = Literal["demo", "detection"]
#: side of a picture of the detection set in pixels
DETECTION_SIDE = 128
#: goes up when the same recipe would draw or ask something else: what an older version published is not taken for it
DRAWING_VERSION = 2


@dataclass(frozen=True)
class DemoRecipe:
    """What determines a demo set.

    Attributes:
        kind: "demo" (questions about scenes in cells) or "detection" (boxes that answers name by their numbers).
        num_train, num_test: records per split. Every record is a pure function of (seed, split, index).
        seed: of everything drawn.
        image_size: side of the pictures in pixels; a multiple of 4, at least 48.
        captions: what a base learns from: every training picture comes with several questions and a caption. Otherwise
            with one question, or two for one picture in five: what a trial is fine-tuned on.
    """

    num_train: int = 6000
    num_test: int = 1000
    seed: int = 0
    image_size: int = 96
    captions: bool = False
    kind: DemoKind = "demo"

    @property
    def folder(self) -> str:
        """Name of the raw folder; sets of different recipes do not mix."""
        captions = "-captions" if self.captions else ""
        kind = "" if self.kind == "demo" else f"{self.kind}-"
        return (
            f"{kind}v{DRAWING_VERSION}-{self.num_train}-{self.num_test}-{self.image_size}px-seed{self.seed}{captions}"
        )

    def to_json(self) -> dict[str, Any]:
        """As the manifest records it."""
        return {"kind": self.kind, "version": DRAWING_VERSION, **asdict(self)}


def detection_recipe(num_train: int = 6000, num_test: int = 2000, seed: int = 0) -> DemoRecipe:
    """A set of kind "detection": one question a picture, whose size is the set's own."""
    return DemoRecipe(num_train, num_test, seed, DETECTION_SIDE, kind="detection")


#: where each demo's set lies, and what it is drawn by
DEMO_RECIPES = {DEMO_URI: DemoRecipe(), DETECTION_URI: detection_recipe()}
