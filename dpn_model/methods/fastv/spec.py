"""Settings, plan and search space of FastV (arXiv 2403.06764; spec peer-methods 6.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.probe_cost import attention_macs
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_of_counts


@dataclass(frozen=True)
class FastVSettings(SitedSettings):
    """Settings of FastV.

    Attributes:
        sites: the one layer K behind which tokens are dropped; the authors' scripts use 2 and 3.
        positions: the authors keep the rotary positions of what is kept.
        keep: 1 - R of the paper.
        query: whose attention ranks: the last token of the prompt as in the authors' code, or the mean over the text,
            or over everything, as their paper describes it.
        rounding: of the number that is kept; the authors' scripts differ (at R = 0.9 of 576: 58 or 57).
    """

    name: ClassVar[str] = "fastv"
    sites: tuple[int, ...] | None = setting((2,), "after this layer (K)", ge=1)
    positions: Positions = setting("keep", "rotary positions behind the drop: kept, or renumbered")
    keep: float = keep_setting(0.5)
    query: Literal["last", "text", "all"] = setting("last", "whose attention ranks the tokens")
    rounding: Literal["round", "floor"] = setting("round", "of the number that is kept")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != 1:
            raise ValueError(f"sites = {list(self.sites)}: fastv drops once; allowed: one layer")

    def kept(self, tokens: int) -> int:
        """Tokens left of a picture."""
        return kept_count(self.keep, tokens, round if self.rounding == "round" else int)


def plan(settings: FastVSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample."""
    (site,) = settings.resolve_sites(shape.decoder.num_layers)
    count = settings.kept(math.prod(image_rows(shape)))

    def looking(rows: int) -> int:
        asking = {"last": 1, "text": text_tokens, "all": rows}[settings.query]
        return attention_macs(shape.decoder, asking, rows)

    return plan_of_counts(shape, text_tokens, {site: count}, looking)


SPEC = MethodSpec(
    settings=FastVSettings,
    label="FastV",
    plan=plan,
    parts="dpn_model.methods.fastv.reducer:build",
    search={"keep": Dimension("keep", 0.1, 0.9)},
    is_query_aware=True,
    budget=Dimension("keep", 0.01, 1.0),
)
