"""Settings, plan and search space of SparseVLM and SparseVLM+ (arXiv 2410.04417; spec peer-methods 6.5).

The authors declare 192, 128, 96 or 64 tokens, the mean over layers if a site's layer ran on what the site leaves. It
does not: the site ranks by the finished layer, so 192 is 206.5. Here `keep` is what they declare, and plans count what
runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_of_counts

Version = Literal["v1", "v2"]
#: of a picture, as in the papers
_TOKENS = 576
#: by version and declared tokens: tokens kept behind each site
_LISTS: dict[Version, dict[int, tuple[int, int, int]]] = {
    "v1": {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)},
    "v2": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
#: the authors' sites of 32 layers (2, 6 and 15, counted from 0), as layers behind which tokens go
_SITES, _LAYERS = (3, 7, 16), 32
#: 14 of 32
_HEADS = 14 / 32


class Counts(NamedTuple):
    """What a site leaves of a picture: tokens kept as they are, and tokens merged out of those that are dropped."""

    kept: int
    merged: int


@dataclass(frozen=True)
class SparseVLMSettings(SitedSettings):
    """Settings of SparseVLM (v1) and SparseVLM+ (v2). What is None is as the version has it.

    Attributes:
        sites: None: the authors' three of 32 layers, scaled to the depth.
        positions: v1 renumbers, v2 keeps.
        version: the lists of tokens per site, and the defaults of what follows.
        keep: tokens the authors declare, as a share or a number. At their four budgets the lists are theirs; between
            them, and towards none and all, every site's share follows a straight line.
        recycle: whether some of the dropped tokens come back, merged; v1 alone.
        heads: share of heads, those that look most from words to the picture, which rank; v1 all, v2 14 of 32.
        rope_correction: whether attention is divided by what rotary positions alone would make of it; v2 alone.
    """

    name: ClassVar[str] = "sparsevlm"
    sites: tuple[int, ...] | None = setting(None, "after these three layers; default 3, 7, 16 of 32, scaled", ge=1)
    positions: Positions | None = setting(  # type: ignore[assignment]  # None: the version's
        None, "rotary positions behind a site: renumbered (v1) or kept (v2)"
    )
    version: Version = setting("v1", "v1: SparseVLM; v2: SparseVLM+")
    keep: float = keep_setting(1 / 3, "share of visual tokens as the authors declare it; above 1, their number")
    recycle: bool | None = setting(None, "whether dropped tokens come back merged; default with v1 alone")
    heads: float | None = setting(None, "share of heads that rank; default 1 with v1, 14/32 with v2", gt=0, le=1)
    rope_correction: bool | None = setting(
        None, "whether the bias of rotary positions is divided out; default v2 alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != len(_SITES):
            raise ValueError(
                f"sites = {list(self.sites)}: the lists of tokens are for three sites; allowed: three layers"
            )

    @property
    def keeps_positions(self) -> bool:
        """Whether rows keep their rotary positions."""
        return self.positions == "keep" if self.positions is not None else self.version == "v2"

    @property
    def recycles(self) -> bool:
        """Whether dropped tokens come back merged."""
        return self.version == "v1" if self.recycle is None else self.recycle

    @property
    def corrects_rope(self) -> bool:
        """Whether the bias of rotary positions is divided out."""
        return self.version == "v2" if self.rope_correction is None else self.rope_correction

    @property
    def head_share(self) -> float:
        """Share of heads that rank."""
        return self.heads if self.heads is not None else (1.0 if self.version == "v1" else _HEADS)

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """As in `SitedSettings`; the default scaled to the depth."""
        if self.sites is not None:
            return super().resolve_sites(num_layers)
        if num_layers < 4:
            raise ValueError(f"sites: the default needs 4 layers, this decoder has {num_layers}; name three of them")
        return replace(self, sites=scaled_sites(num_layers)).resolve_sites(num_layers)

    def counts(self, site: int, entered: int, now: int) -> Counts:
        """What the `site`-th site (0, 1, 2) leaves of a picture.

        Args:
            entered: its tokens as they entered the decoder.
            now: in front of the site.
        """
        declared = (self.keep if self.keep <= 1 else min(1.0, self.keep / entered)) * _TOKENS
        points = {0: (0, 0, 0), **dict(sorted(_LISTS[self.version].items())), _TOKENS: (_TOKENS,) * 3}
        low = max(point for point in points if point <= declared)
        high = min(point for point in points if point >= declared)
        part = (declared - low) / (high - low) if high > low else 0.0
        share = (points[low][site] + part * (points[high][site] - points[low][site])) / _TOKENS
        kept = max(1, min(now, round(share * entered)))
        dropped = now - kept
        return Counts(kept, clusters_of(recycled_of(dropped)) if self.recycles and dropped else 0)


def scaled_sites(num_layers: int) -> tuple[int, ...]:
    """The authors' sites in a decoder of another depth, of at least 4 layers: three different ones."""
    sites: list[int] = []
    for site in _SITES:
        sites.append(max(round(site * num_layers / _LAYERS), sites[-1] + 1 if sites else 1))
    return tuple(sites)


def recycled_of(dropped: int) -> int:
    """How many of the dropped tokens are merged rather than lost: the best 30%."""
    return int(dropped * 0.3) + 1


def clusters_of(recycled: int) -> int:
    """How many tokens they are merged into."""
    return int(recycled / 10) + 1


def plan(settings: SparseVLMSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same counts for every sample; what the raters cost depends on how many words are raters, and is left out."""
    entered = now = math.prod(image_rows(shape))
    counts = {}
    for number, site in enumerate(settings.resolve_sites(shape.decoder.num_layers)):
        now = counts[site] = sum(settings.counts(number, entered, now))
    return plan_of_counts(shape, text_tokens, counts)


SPEC = MethodSpec(
    settings=SparseVLMSettings,
    label="SparseVLM",
    plan=plan,
    parts="dpn_model.methods.sparsevlm.reducer:build",
    search={"keep": Dimension("keep", 0.1, 0.6)},
    is_query_aware=True,
    budget=Dimension("keep", 0.01, 1.0),
)
