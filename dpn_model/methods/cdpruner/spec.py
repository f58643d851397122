"""Settings, plan and search space of CDPruner (arXiv 2506.10967; spec peer-methods 5.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings, Positions, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front


@dataclass(frozen=True)
class CdPrunerSettings(MethodSettings):
    """Settings of CDPruner.

    Attributes:
        keep: T of the paper, as a share or a number.
        relevance: "embeddings": mean cosine between a projected token and the embeddings of the question's words, for
            bases without a CLIP text tower; "none": tokens that differ, whatever is asked. The authors' choice for
            LLaVA-1.5, CLIP's text tower and projections, is not to be had: LLaVA's weights do not hold them, and the
            question reaches the model as token ids of another vocabulary.
        theta: weight of relevance against diversity in the paper, a relevance r becoming exp(θ r / (2 (1 - θ))); null
            multiplies by r itself, as the authors' code does.
        positions: the authors renumber.
    """

    name: ClassVar[str] = "cdpruner"
    keep: float = keep_setting(0.25)
    relevance: Literal["embeddings", "none"] = setting("embeddings", "what makes a token relevant to the question")
    theta: float | None = setting(None, "weight of relevance (paper); null: as in the authors' code", ge=0, lt=1)
    positions: Positions = setting("contiguous", "rotary positions of what is kept: renumbered, or kept")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevance == "none" and self.theta is not None:
            raise ValueError(f"theta = {self.theta:g} with relevance = none: nothing is weighed; allowed: null")

    def macs(self, tokens: int, hidden_size: int) -> int:
        """Multiply-accumulates on a picture of `tokens`: cosines, relevance, and the triangle of the factorisation."""
        kept = kept_count(self.keep, tokens)
        relevance = tokens * hidden_size if self.relevance == "embeddings" else 0
        return tokens**2 * hidden_size + relevance + tokens * kept * (kept - 1) // 2


def plan(settings: CdPrunerSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on."""
    tokens = math.prod(image_rows(shape))
    macs = settings.macs(tokens, shape.decoder.hidden_size)
    return plan_in_front(shape, text_tokens, kept_count(settings.keep, tokens), selector=macs)


SPEC = MethodSpec(
    settings=CdPrunerSettings,
    label="CDPruner",
    plan=plan,
    parts="dpn_model.methods.cdpruner.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    is_query_aware=True,
    budget=Dimension("keep", 0.01, 1.0),
)
