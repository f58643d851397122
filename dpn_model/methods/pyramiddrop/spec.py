"""Settings, plan and search space of PyramidDrop (arXiv 2410.17247; spec peer-methods 6.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.probe_cost import next_attention_macs
from dpn_model.methods.settings import SitedSettings, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_of_counts


@dataclass(frozen=True)
class PyramidDropSettings(SitedSettings):
    """Settings of PyramidDrop.

    It runs on any checkpoint; the authors also train with it, in stage 2 or in both, and report more then. In training
    every turn's last token before its answer ranks, at inference the prompt's last one.

    Attributes:
        ratio: λ: behind the s-th site, λ^s of the tokens that entered the decoder are left.
        ratios: shares of the tokens that entered, one per entry of `sites`, in place of `ratio`.
    """

    name: ClassVar[str] = "pyramiddrop"
    ratio: float = setting(
        0.5, "kept at each site of what was kept before; with or without training for it", gt=0, le=1
    )
    ratios: tuple[float, ...] | None = setting(
        None, "shares of a picture's own tokens left behind each site", per_site="ratio", gt=0, le=1
    )

    def shares(self, num_layers: int) -> dict[int, float]:
        """By site, ascending: the share of the tokens that entered which is left behind it.

        Raises:
            ValueError: sites that do not fit the decoder, another number of `ratios`, or one that grows with depth.
        """
        if self.ratios is None:
            sites = self.resolve_sites(num_layers)
            return {site: self.ratio**number for number, site in enumerate(sites, start=1)}
        shares: dict[int, float] = self.spread("ratios", num_layers)
        found = list(shares.values())
        if found != sorted(found, reverse=True):
            raise ValueError(f"ratios, by depth, are {found}; what was dropped cannot come back: none may grow")
        return shares


def plan(settings: PyramidDropSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same counts for every sample."""
    entered = math.prod(image_rows(shape))
    shares = settings.shares(shape.decoder.num_layers)
    counts = {site: kept_count(share, entered, int) for site, share in shares.items()}
    return plan_of_counts(shape, text_tokens, counts, lambda rows: next_attention_macs(shape.decoder, 1, rows))


SPEC = MethodSpec(
    settings=PyramidDropSettings,
    label="PyramidDrop",
    plan=plan,
    parts="dpn_model.methods.pyramiddrop.reducer:build",
    search={"ratio": Dimension("ratio", 0.3, 0.8)},
    is_query_aware=True,
    budget=Dimension("ratio", 0.02, 1.0),
)
