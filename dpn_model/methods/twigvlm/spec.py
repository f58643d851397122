"""Settings, plan and search space of TwigVLM (arXiv 2503.14075; spec peer-methods 6.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.flops import layer_macs
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class TwigVlmSettings(SitedSettings):
    """Settings of TwigVLM.

    Attributes:
        sites: the one layer K that the twig grows on.
        positions: the authors keep the rotary positions of what is kept.
        keep: R over the picture's tokens; 227, 134 and 41 of 576 come to 192, 128 and 64 tokens on average.
        depth: T, layers of the twig.
        wipe: share of the decoder's depth behind which all visual tokens go; 1: they stay.
    """

    name: ClassVar[str] = "twigvlm"
    sites: tuple[int, ...] | None = setting((2,), "the layer that the twig grows on (K)", ge=1)
    positions: Positions = setting("keep", "rotary positions behind a drop: kept, or renumbered")
    keep: float = keep_setting(0.394)
    depth: int = setting(3, "layers of the twig (T)", ge=1)
    wipe: float = setting(0.75, "share of the depth behind which all visual tokens go; 1: never", gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != 1:
            raise ValueError(f"sites = {list(self.sites)}: twigvlm has one twig; allowed: one layer")

    def places(self, num_layers: int) -> tuple[int, int | None]:
        """The layers behind which tokens are ranked, and all dropped; None: they never are.

        Raises:
            ValueError: layers that a decoder of `num_layers` does not have, or in the wrong order.
        """
        site, wipe = self.resolve_sites(num_layers)[0], round(self.wipe * num_layers)
        if site + self.depth > num_layers:
            raise ValueError(
                f"depth = {self.depth}: a twig on layer {site} is made of the layers behind it; allowed: 1 to "
                f"{num_layers - site}"
            )
        if wipe <= site:
            raise ValueError(
                f"wipe = {self.wipe:g} is layer {wipe}, not behind the twig's layer {site}; allowed: shares from "
                f"{(site + 1) / num_layers:.3g} to 1"
            )
        return site, wipe if wipe < num_layers else None


def plan(settings: TwigVlmSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same for every sample; the twig runs over all its tokens."""
    decoder, tokens = shape.decoder, math.prod(image_rows(shape))
    site, wipe = settings.places(decoder.num_layers)
    sites, counts = [site], [tokens, kept_count(settings.keep, tokens)]
    if wipe is not None:
        sites, counts = [*sites, wipe], [*counts, 0]
    twig = settings.depth * layer_macs(tokens + text_tokens, decoder, "swiglu")
    ledger = Ledger.of_stages(decoder.num_layers, sites, counts, text_tokens, num_images=1, macs={"twig": twig})
    return Planned(ledger, ledger)


SPEC = MethodSpec(
    settings=TwigVlmSettings,
    label="TwigVLM",
    plan=plan,
    parts="dpn_model.methods.twigvlm.reducer:build",
    search={"keep": Dimension("keep", 0.05, 0.6), "depth": Dimension("depth", choices=(1, 2, 3))},
    needs_training="stage 2",
    is_query_aware=True,
    budget=Dimension("keep", 0.01, 1.0),
)
