"""Sizes, plan and arithmetic that methods with a projector of their own share (spec peer-methods 4). No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import PROJECTOR
from dpn_model.methods.settings import MethodSettings
from dpn_model.methods.spec import Planned, plan_in_front


@dataclass(frozen=True)
class Sizes:
    """What a projector has to fit.

    Attributes:
        vision_size: width of the tower's features.
        hidden_size: of the decoder.
        height, width: patches of a picture.
        tower_levels: as in `ModelShape`.
    """

    vision_size: int
    hidden_size: int
    height: int
    width: int
    tower_levels: int | None = None

    @classmethod
    def of(cls, shape: ModelShape | None) -> Sizes:
        """Those of a base.

        Raises:
            ValueError: pictures of any size, or a tower whose features nobody can have.
        """
        if shape is None or shape.image_grid is None or shape.vision_size is None:
            raise ValueError(
                "name: this method projects patches of pictures of one size, which this base does not show; allowed: "
                "llava (patches alone), llava_hr, chatrex"
            )
        return cls(shape.vision_size, shape.decoder.hidden_size, *shape.image_grid, shape.tower_levels)

    @property
    def patches(self) -> int:
        """Of a picture."""
        return self.height * self.width

    def divided(self, name: str, sides: tuple[int, int]) -> tuple[int, int]:
        """The grid of blocks of `sides`, the setting `name`.

        Raises:
            ValueError: it is no whole number of them.
        """
        if self.height % sides[0] or self.width % sides[1]:
            told = f"{sides[0]}" if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"
            raise ValueError(
                f"{name} = {told} does not divide this base's grid of {self.height}x{self.width} patches; allowed: "
                f"divisors of {self.height}" + (f" by divisors of {self.width}" if self.width != self.height else "")
            )
        return self.height // sides[0], self.width // sides[1]

    def levels(self, chosen: Sequence[int] | None, depths: Sequence[float]) -> tuple[int, ...]:
        """Hidden states of the tower, in the order they are read.

        Args:
            chosen: as they were set; None: those at `depths`, shares of the tower's depth, each once.
            depths: as the authors chose.

        Raises:
            ValueError: the tower does not show them.
        """
        if self.tower_levels is None:
            raise ValueError("levels: this base's tower shows its features alone; allowed: bases with one CLIP tower")
        levels = chosen or tuple(dict.fromkeys(round(depth * self.tower_levels) for depth in depths))
        if max(levels) > self.tower_levels:
            raise ValueError(f"levels = {list(levels)}; allowed with this base's tower: 0 to {self.tower_levels}")
        return tuple(levels)

    def square(self, name: str, tokens: int | None, share: float = 0.5) -> tuple[int, int]:
        """A grid of as many tokens; of None, the patches' own times `share` each way.

        Raises:
            ValueError: `tokens`, the setting `name`, is no square, or more than there are patches each way.
        """
        if tokens is None:
            return max(1, int(self.height * share)), max(1, int(self.width * share))
        side, most = math.isqrt(tokens), min(self.height, self.width)
        if side**2 != tokens or side > most:
            raise ValueError(f"{name} = {tokens}; allowed: square numbers up to {most}**2 = {most**2}")
        return side, side


@dataclass(frozen=True)
class ProjectorSettings(MethodSettings):
    """Of a method with a projector of its own: its weights are learned in both stages."""

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """Tokens of a picture as (height, width).

        Raises:
            ValueError: settings that do not fit the base, here as in `macs`.
        """
        raise NotImplementedError

    def macs(self, sizes: Sizes) -> int:
        """Multiply-accumulates of one picture."""
        raise NotImplementedError


def plan_projected(settings: ProjectorSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """All samples alike: the projector's tokens, in every layer."""
    sizes = Sizes.of(shape)
    return plan_in_front(shape, text_tokens, math.prod(settings.grid(sizes)), **{PROJECTOR: settings.macs(sizes)})


def heads_of(heads: int | None, width: int, head_size: int) -> int:
    """Attention heads of a layer of `width`: as set, or of about `head_size`, as many as divide it.

    Raises:
        ValueError: they do not divide it.
    """
    if heads is None:
        return max(count for count in range(1, max(1, width // head_size) + 1) if width % count == 0)
    if width % heads:
        raise ValueError(f"heads = {heads} does not divide the width {width}; allowed: divisors of {width}")
    return heads


def linear_macs(rows: int, *widths: int) -> int:
    """Matrices one behind the other, from each width to the next."""
    return rows * sum(before * after for before, after in pairwise(widths))


def attention_macs(queries: int, keys: int, width: int) -> int:
    """An attention layer with its four projections."""
    return 2 * (queries + keys) * width**2 + 2 * queries * keys * width
