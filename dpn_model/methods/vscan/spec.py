"""Settings, plan and search space of VScan (arXiv 2505.22654; spec peer-methods 5.7 and 6.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.probe_cost import next_attention_macs
from dpn_model.methods.selector_costs import cls_attention_macs
from dpn_model.methods.settings import SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class VScanSettings(SitedSettings):
    """Settings of VScan.

    Attributes:
        sites: the one layer behind which tokens are dropped again; the authors' is half the depth.
        keep: T in front of the decoder (96 of 576 for a mean of 64 over the depth).
        late_keep: share of these that is left behind the layer, or above 1 a number; at all published budgets a third.
        windows: the local half takes equally many of so many windows each way.
        local_layer: of the tower, counted from 0, whose class token chooses in windows; the last but one chooses the
            rest.
    """

    name: ClassVar[str] = "vscan"
    sites: tuple[int, ...] | None = setting(None, "after this layer the second drop; default half the depth", ge=1)
    keep: float = keep_setting(round(96 / 576, 4))
    late_keep: float = keep_setting(round(1 / 3, 4), "share of these left behind the layer, or above 1 a number")
    windows: int = setting(4, "windows each way of the local half", ge=1)
    local_layer: int = setting(5, "layer of the tower that chooses in windows, counted from 0", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != 1:
            raise ValueError(f"sites = {list(self.sites)}: vscan drops once in the decoder; allowed: one layer")

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """The one layer. Raises as in `SitedSettings`."""
        return (num_layers // 2,) if self.sites is None else super().resolve_sites(num_layers)

    def local_count(self, tokens: int) -> int:
        """Tokens that every window keeps; what their division leaves over is the global half's."""
        return kept_count(self.keep, tokens) // 2 // self.windows**2

    def macs(self, tokens: int, width: int) -> int:
        """Multiply-accumulates of the likeness of what is dropped to what is kept."""
        kept = kept_count(self.keep, tokens)
        return (tokens - kept) * kept * width

    def check_tower(self, layers: int | None) -> None:
        """Raise ValueError where the tower has too few layers; None: nobody has said."""
        if layers is not None and self.local_layer >= layers:
            raise ValueError(f"local_layer = {self.local_layer}: the tower has {layers}; allowed: 0 to {layers - 1}")


def plan(settings: VScanSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same counts for every sample."""
    settings.check_tower(None if shape.tower is None else shape.tower.num_layers)
    tokens, layers = math.prod(image_rows(shape)), shape.decoder.num_layers
    first = kept_count(settings.keep, tokens)
    stages = (tokens, first, kept_count(settings.late_keep, first))
    macs = {"selector": settings.macs(tokens, shape.decoder.hidden_size)}
    macs["probe"] = next_attention_macs(shape.decoder, 1, first + text_tokens)
    macs["tower"] = len({settings.local_layer, _GLOBAL}) * cls_attention_macs(shape)
    ledger = Ledger.of_stages(
        layers, (0, *settings.resolve_sites(layers)), stages, text_tokens, num_images=1, macs=macs
    )
    return Planned(ledger, ledger)


_GLOBAL = -2

SPEC = MethodSpec(
    settings=VScanSettings,
    label="VScan",
    plan=plan,
    parts="dpn_model.methods.vscan.parts:build",
    search={"keep": Dimension("keep", 0.05, 0.9), "late_keep": Dimension("late_keep", 0.1, 1.0)},
    is_query_aware=True,
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
