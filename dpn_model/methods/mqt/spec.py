"""Settings, plan and search space of MQT-LLaVA (arXiv 2405.19315; spec peer-methods 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import PROJECTOR
from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes, attention_macs, heads_of, linear_macs
from dpn_model.methods.settings import keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, plan_in_front

HEAD_SIZE = 64


@dataclass(frozen=True)
class MqtSettings(ProjectorSettings):
    """Settings of MQT-LLaVA.

    Attributes:
        keep: m at inference, the first of the queries that go on, as a share of them or a number.
        elastic: every training step draws an even m, as the authors' second stage does; else `keep` holds there too,
            as in their first.
        queries: a square number; default 4/9 of the patches, the authors' 256 of 576.
        heads: default one for every 64 of the tower's width, which is the attention's.
        content_keys: keys are made from patches with their positions; the authors' code makes them from positions
            alone.
    """

    name: ClassVar[str] = "mqt"
    keep: float = keep_setting(1.0, "share of the queries whose tokens go on, the first; above 1, their number")
    elastic: bool = setting(True, "every training step draws an even number of queries")
    queries: int | None = setting(None, "a square number; default: 4/9 of the patches", ge=1)
    heads: int | None = setting(None, "default: one for every 64 of the tower's width", ge=1)
    content_keys: bool = setting(False, "keys tell what a patch holds, not only where it is")

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """All queries: how many of their tokens go on is decided behind them."""
        heads_of(self.heads, sizes.vision_size, HEAD_SIZE)
        if sizes.vision_size % 4:
            raise ValueError(f"name: the tower is {sizes.vision_size} wide; allowed with its positions: multiples of 4")
        return sizes.square("queries", self.queries, share=2 / 3)

    def macs(self, sizes: Sizes) -> int:
        """Attention of all queries, and the matrix behind it."""
        queries, width = math.prod(self.grid(sizes)), sizes.vision_size
        return attention_macs(queries, sizes.patches, width) + linear_macs(queries, width, sizes.hidden_size)


def plan(settings: MqtSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """All queries are projected, the first of them go on."""
    sizes = Sizes.of(shape)
    tokens = kept_count(settings.keep, math.prod(settings.grid(sizes)))
    return plan_in_front(shape, text_tokens, tokens, **{PROJECTOR: settings.macs(sizes)})


def trains(settings: MqtSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """From the fewest to the most queries that a step can draw; half of them on average."""
    queries = math.prod(settings.grid(Sizes.of(shape)))
    if not settings.elastic or queries == 1:
        return [plan(settings, shape, text_tokens)]
    fewest, most = ((number / queries) for number in (2, queries // 2 * 2))
    cheapest, dearest = (plan(replace(settings, keep=share), shape, text_tokens).dearest for share in (fewest, most))
    return [Planned(cheapest, dearest)]


SPEC = MethodSpec(
    settings=MqtSettings,
    label="MQT-LLaVA",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.mqt.projector:build",
    search={"keep": Dimension("keep", 0.01, 1.0)},
    needs_training="stage 1+2",
    budget=Dimension("keep", 0.004, 1.0),
)
