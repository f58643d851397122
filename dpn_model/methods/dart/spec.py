"""Settings, plan and search space of DART (EMNLP 2025; spec frontier A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class DartSettings(SitedSettings):
    """Settings of DART.

    Attributes:
        sites: the one layer K behind which tokens are dropped.
        positions: the authors keep the rotary positions of what is kept.
        keep: share that pivots bring along (1 - R of the paper).
        visual_pivots, text_pivots: tokens with the largest keys, which what is kept must not resemble.
        count: "authors" keeps the visual pivots and, for every pivot, the whole part of its share of `keep` (of 576:
            128 make 4 + 8 * 16 = 132); "exact" keeps `keep`, the visual pivots among them.
    """

    name: ClassVar[str] = "dart"
    sites: tuple[int, ...] | None = setting((2,), "after this layer (K)", ge=1)
    positions: Positions = setting("keep", "rotary positions behind the drop: kept, or renumbered")
    keep: float = keep_setting(round(128 / 576, 4))
    visual_pivots: int = setting(4, "visual tokens that others are compared with; they stay", ge=1)
    text_pivots: int = setting(4, "text tokens that visual ones are compared with", ge=0)
    count: Literal["authors", "exact"] = setting("authors", "whether visual pivots are kept on top of the number")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != 1:
            raise ValueError(f"sites = {list(self.sites)}: dart drops once; allowed: one layer")

    def counts(self, tokens: int) -> tuple[int, int]:
        """Visual pivots of a picture of `tokens`, and how many others are kept."""
        wanted, pivots = kept_count(self.keep, tokens), self.visual_pivots + self.text_pivots
        if self.count == "exact":
            visual = min(self.visual_pivots, wanted)
            return visual, wanted - visual
        visual = min(self.visual_pivots, tokens)
        return visual, min(tokens - visual, wanted // pivots * pivots)

    def macs(self, tokens: int, text_pivots: int, width: int) -> int:
        """Multiply-accumulates of the likeness of all tokens of a picture to the pivots."""
        return (self.counts(tokens)[0] + text_pivots) * tokens * width


def plan(settings: DartSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample."""
    tokens, layers = math.prod(image_rows(shape)), shape.decoder.num_layers
    macs = settings.macs(tokens, min(settings.text_pivots, text_tokens), shape.decoder.hidden_size)
    stages = (tokens, sum(settings.counts(tokens)))
    sites = settings.resolve_sites(layers)
    ledger = Ledger.of_stages(layers, sites, stages, text_tokens, num_images=1, macs={TAG: macs})
    return Planned(ledger, ledger)


#: under which likeness is billed
TAG = "likeness"

SPEC = MethodSpec(
    settings=DartSettings,
    label="DART",
    plan=plan,
    parts="dpn_model.methods.dart.reducer:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    is_query_aware=True,
    # Shares of 576 at which every pivot of the default brings one more.
    budget=Dimension("keep", choices=tuple(round(8 * each / 576, 5) for each in range(1, 73))),
)
