"""Settings, plan and counts of LLaVA-PruMerge and PruMerge+ (arXiv 2403.15388; spec peer-methods 5.1 and 5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings, Positions, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front, projector_macs


@dataclass(frozen=True)
class PruMergeSettings(MethodSettings):
    """Settings of PruMerge.

    Attributes:
        plus: PruMerge+: evenly spaced patches are kept beside the best.
        keep: null: as many of the best as are outliers, picture by picture; a share or a number: so many, as where the
            authors train (their PruMerge+: 1/8).
        iqr: an outlier lies more than so many interquartile ranges above the third quartile.
        neighbours: how many tokens of nearest key are added to each kept one.
        extra_token: one token more, the sum of all that were dropped, weighted by attention.
        order: of what is kept: by falling attention with the evenly spaced behind, as in the authors' code, or as in
            the picture. The extra token is the last.
        positions: the authors renumber.
    """

    name: ClassVar[str] = "prumerge"
    plus: bool = setting(False, "PruMerge+: evenly spaced patches as well")
    keep: float | None = keep_setting(None, "best patches kept, as a share or a number; null: the outliers")
    iqr: float = setting(1.5, "interquartile ranges above the third quartile, from which on one is an outlier", ge=0)
    neighbours: int = setting(32, "tokens of nearest key that are added to each kept one", ge=0)
    extra_token: bool = setting(True, "one token for all that were dropped")
    order: Literal["score", "spatial"] = setting("score", "of what is kept: by attention, or as in the picture")
    positions: Positions = setting("contiguous", "rotary positions of what is kept: renumbered, or kept")

    def best(self, outliers: int, patches: int) -> int:
        """How many are kept by attention, of a picture with so many outliers: at least one."""
        if self.keep is not None:
            return kept_count(self.keep, patches)
        return max(1, int(patches * (outliers / patches)))

    def spaced(self, outliers: int, patches: int) -> range:
        """Patches that PruMerge+ keeps wherever they rank; none in PruMerge.

        The last patch is never one, as with the authors; their spacing of 0, of more than a third of outliers, is 1.
        """
        if not self.plus:
            return range(0)
        share = (outliers if self.keep is None else self.best(outliers, patches)) / patches
        step = int(1 / max(share, 1 / patches))
        return range(0, patches - 1, max(1, step // 3)) if self.keep is None else range(step // 2, patches - 1, step)

    def chosen(self, order: Sequence[int], outliers: int) -> list[int]:
        """Patches that are kept, in the order they go on, of all in falling order of attention."""
        best = list(order[: self.best(outliers, len(order))])
        kept = [*best, *sorted(set(self.spaced(outliers, len(order))) - set(best))]
        return kept if self.order == "score" else sorted(kept)

    def macs(self, patches: int, tokens: int, key_width: int, width: int) -> int:
        """Multiply-accumulates on one picture, of which `tokens` go on.

        The class token's attention, cosines between what goes on and all patches, and the sums of what is merged.
        """
        return (patches + 1) * key_width + tokens * patches * (key_width + width)

    def tokens(self, kept: int, patches: int) -> int:
        """With the extra token, which there is where something was dropped."""
        return kept + (self.extra_token and kept < patches)


def plan(settings: PruMergeSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """From the fewest tokens that a picture can keep to the most.

    At most a quarter of its patches are outliers, since they lie above the third quartile; of the evenly spaced ones
    between none and all rank among the best.
    """
    patches = math.prod(image_rows(shape))
    possible = range(patches - math.floor(0.75 * (patches - 1)))
    counts = [(settings.best(outliers, patches), len(settings.spaced(outliers, patches))) for outliers in possible]
    fewest = min(settings.tokens(max(best, spaced), patches) for best, spaced in counts)
    most = max(settings.tokens(min(best + spaced, patches), patches) for best, spaced in counts)
    ledgers = []
    for tokens in (fewest, most):
        macs = projector_macs(shape, tokens)
        if shape.tower is not None:
            width = shape.tower.hidden_size
            macs["selector"] = settings.macs(patches, tokens, width, width)
        ledgers.append(plan_in_front(shape, text_tokens, tokens, **macs).cheapest)
    return Planned(*ledgers)


SPEC = MethodSpec(
    settings=PruMergeSettings,
    label="PruMerge",
    plan=plan,
    parts="dpn_model.methods.prumerge.selector:build",
    search={"keep": Dimension("keep", 0.02, 0.5)},
    chooses="per sample",
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
