"""Settings, plan and search space of GlimpsePrune (arXiv 2508.01548; spec frontier A1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad, Ledger, Rows
from dpn_model.methods.probe_cost import attention_macs, rider_macs
from dpn_model.methods.projecting.settings import Sizes, linear_macs
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

#: of the decoder's depth; layer 22 of 32, which the authors count from 0
SITE = 22 / 32
#: hidden states that the authors read, as shares of the tower's depth: 23, 17, 11 and 5 of CLIP-L's 24
DEPTHS = (23 / 24, 17 / 24, 11 / 24, 5 / 24)


@dataclass(frozen=True)
class GlimpsePruneSettings(SitedSettings):
    """Settings of GlimpsePrune.

    Attributes:
        sites: the one layer that the glimpse rides up to, and behind which tokens are dropped.
        positions: the authors keep the rotary positions of what is kept.
        threshold: of a token's probability, above which it stays; one of every picture always does.
        max_keep: the most that stay of a picture, the likeliest of them.
        early_cache: what the layers up to the site keep for decoding: only what stays, as the authors, or everything.
        levels: hidden states of the tower that the predictor reads, a layer for each, in this order. Default: the
            authors' 23, 17, 11, 5 of 24, at other depths at the same shares of it, each once.
        width: of the predictor, of what it reads of the tower too; `heads` of its attention.
        mass: of what the text behind the prompt looks at, the share that a target holds (`target.py`).
        dice_weight, bce_weight: of the two losses.
    """

    name: ClassVar[str] = "glimpse_prune"
    sites: tuple[int, ...] | None = setting(None, "after this layer; default 22/32 of the depth", ge=1)
    positions: Positions = setting("keep", "rotary positions behind the drop: kept, or renumbered")
    threshold: float = setting(0.5, "probability above which a token stays", ge=0, lt=1)
    max_keep: float = keep_setting(1.0, "most tokens kept of a picture: a share, or above 1 a number")
    early_cache: Literal["pruned", "whole"] = setting("pruned", "what layers up to the site keep for decoding")
    levels: tuple[int, ...] | None = setting(None, "hidden states of the tower; default 23, 17, 11, 5 of 24", ge=0)
    width: int = setting(256, "of the predictor", ge=1)
    heads: int = setting(4, "of the predictor's attention", ge=1)
    mass: float = setting(0.5, "share of later rows' attention to a picture that its target holds", gt=0, le=1)
    dice_weight: float = setting(1.0, "weight of the Dice loss", ge=0)
    bce_weight: float = setting(0.1, "weight of the binary cross entropy", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None and len(self.sites) != 1:
            raise ValueError(f"sites = {list(self.sites)}: glimpse_prune drops once; allowed: one layer")
        if self.levels == ():
            raise ValueError("levels is empty; allowed: at least one hidden state of the tower")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width = {self.width} with heads = {self.heads}: rows and columns turn half of a head each, in pairs; "
                f"allowed: multiples of {2 * self.heads}"
            )

    def resolve_sites(self, num_layers: int) -> tuple[int, ...]:
        """The one layer. Raises as in `SitedSettings`."""
        return (round(SITE * num_layers),) if self.sites is None else super().resolve_sites(num_layers)

    def most(self, tokens: int) -> int:
        """Tokens that stay of a picture of `tokens` at most; shares are cut off, as by the authors."""
        return kept_count(self.max_keep, tokens, int)

    def predictor_macs(self, sizes: Sizes, decoder_heads: int) -> int:
        """Multiply-accumulates of one picture. Raises as `Sizes.levels`."""
        width, tokens = self.width, sizes.patches
        projections = linear_macs(tokens, sizes.vision_size, width) + 2 * tokens * ((2 * width) ** 2 + width**2)
        attention = tokens**2 * (2 * width + width)  # queries and keys are twice as wide as values
        layer = projections + attention + 3 * linear_macs(tokens, width, 2 * width) + tokens * width
        return linear_macs(tokens, decoder_heads, width) + len(sizes.levels(self.levels, DEPTHS)) * layer


def glimpse_macs(shape: ModelShape, site: int, seen: int) -> int:
    """Of one sample: the learned row, projected for every layer, and its way through them."""
    return site * shape.decoder.hidden_size**2 + rider_macs(shape.decoder, site, seen)


def plan(settings: GlimpsePruneSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """From one token left of the picture to the most; the glimpse sees everything."""
    return _planned(settings, shape, text_tokens, text_tokens)


def trains(settings: GlimpsePruneSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """The glimpse sees no answer: from no word of a sample to all of them."""
    none, every = (_planned(settings, shape, text_tokens, words) for words in (0, text_tokens))
    return [Planned(none.cheapest, every.dearest)]


def _planned(settings: GlimpsePruneSettings, shape: ModelShape, text_tokens: int, words: int) -> Planned:
    sizes, layers = Sizes.of(shape), shape.decoder.num_layers
    (site,) = settings.resolve_sites(layers)
    seen = sizes.patches + words
    macs = {
        "glimpse": glimpse_macs(shape, site, seen),
        "predictor": settings.predictor_macs(sizes, shape.decoder.num_heads),
        "probe": attention_macs(shape.decoder, 1, seen + 1),
    }
    whole, ledgers = Rows(sizes.patches, text_tokens), []
    for count in (1, settings.most(sizes.patches)):
        kept = Rows(count, text_tokens)
        early = replace(LayerLoad.whole(whole), keys=kept if settings.early_cache == "pruned" else whole)
        loads = [early] * site + [LayerLoad.whole(kept)] * (layers - site)
        ledgers.append(Ledger.of_layers(whole, loads, num_images=1, macs=macs))
    return Planned(*ledgers)


SPEC = MethodSpec(
    settings=GlimpsePruneSettings,
    label="GlimpsePrune",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.glimpse_prune.reducer:build",
    search={"max_keep": Dimension("max_keep", 0.05, 1.0), "mass": Dimension("mass", 0.3, 0.9)},
    needs_training="stage 2",
    is_query_aware=True,
    chooses="per sample",
    budget=Dimension("max_keep", 0.01, 1.0),
)
