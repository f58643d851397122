"""Settings, plan and search space of AVG-LLaVA (arXiv 2410.02745; spec peer-methods 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.pooling.grid import pooled_size
from dpn_model.methods.pooling.settings import ExpertSettings, plan_pooling
from dpn_model.methods.settings import parse_kernel, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

#: from the cheapest to the dearest; of 24x24 tokens they leave 36, 72, 144, 288 and 576
GRANULARITIES = ("4x4", "2x4", "2x2", "1x2", "1x1")
HEADS = 8


@dataclass(frozen=True)
class AvgLlavaSettings(ExpertSettings):
    """Settings of AVG-LLaVA.

    Attributes:
        sites: one; the authors pool and route in front of the decoder, behind the projector.
        pool: the authors take the mean.
        experts: granularities; those too large for the base's grid are left out.
        text_tokens: words of the instruction that the router hears, those most like the picture; missing ones are 0.
        attention: what the router's transformer layer attends over. The authors' module takes tokens for the batch, so
            that a token sees its like in the sample's other pictures (tiles) and, of one picture, itself alone; their
            paper means the tokens of a picture.
        dropout: of the router's transformer layer.
        margin, rank_weight, ce_weight: of the router's loss, as in the authors' script.
    """

    name: ClassVar[str] = "avg_llava"
    sites: tuple[int, ...] | None = setting((0,), "after this layer; 0 is before the first", ge=0)
    pool: Literal["max", "avg", "conv"] = setting("avg", "what a kernel makes of a window; not conv")
    experts: tuple[str, ...] = setting(GRANULARITIES, "granularities: kernels, height x width", check=parse_kernel)
    text_tokens: int = setting(32, "words of the instruction that the router hears", ge=1)
    attention: Literal["pictures", "tokens"] = setting("pictures", "what the router's layer attends over")
    dropout: float = setting(0.1, "of the router's layer", ge=0, lt=1)
    margin: float = setting(1.0, "of the ranking loss, times ranks and times the difference of losses", ge=0)
    rank_weight: float = setting(1.0, "of the ranking loss", ge=0)
    ce_weight: float = setting(0.1, "of the cross entropy against the best granularity", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is None or len(self.sites) != 1 or self.site_experts is not None:
            raise ValueError(f"sites = {self.sites}: avg_llava chooses once; allowed: one layer, and no site_experts")
        if self.pool == "conv":
            raise ValueError("pool = 'conv': the router sees what every kernel would leave; allowed: avg, max")

    def on_grid(self, grid: tuple[int, int] | None) -> AvgLlavaSettings:
        """The same with the experts that fit.

        Args:
            grid: visual tokens of one picture; None where every picture has its own.

        Raises:
            ValueError: there is no grid, or fewer than two experts are left.
        """
        if grid is None:
            raise ValueError(
                "name = avg_llava: its voter has a weight for every token; allowed: bases whose pictures have one grid"
            )
        fitting = [name for name in self.experts if math.prod(self._size(grid, name)) >= self._floor(name)]
        if len(fitting) < 2:
            raise ValueError(
                f"experts = {', '.join(self.experts)}: {len(fitting)} of them fit a grid of {grid[0]}x{grid[1]} visual "
                "tokens; allowed: two or more that do"
            )
        return replace(self, experts=tuple(fitting))

    def router_tokens(self, grid: tuple[int, int]) -> int:
        """Tokens that the router reads of one picture: at all granularities (of `on_grid`), and words."""
        return sum(math.prod(self._size(grid, name)) for name in self.experts) + self.text_tokens

    def _size(self, grid: tuple[int, int], kernel: str) -> tuple[int, int]:
        return pooled_size(*grid, parse_kernel(kernel), self.rounding)

    def _floor(self, kernel: str) -> int:
        return 1 if kernel == "1x1" else self.min_tokens


def router_macs(width: int, tokens: int, experts: int, pictures: int, attention: str) -> int:
    """Multiply-accumulates of the router for a sample: transformer layer, MLP and voter over every picture's tokens.

    The likeness of words and picture is elementwise, and counts nothing.
    """
    attended = pictures if attention == "pictures" else tokens
    per_token = 7 * width**2 + 2 * attended * width + width * experts + experts
    return pictures * tokens * per_token


def plan(settings: AvgLlavaSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The cheapest and the dearest granularity, each with the router."""
    on_grid = settings.on_grid(shape.image_grid)
    return plan_pooling(on_grid, shape, text_tokens, {"router": _decision(on_grid, shape)})


def trains(settings: AvgLlavaSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """Every granularity, and the router once."""
    on_grid = settings.on_grid(shape.image_grid)
    spent = ({"router": _decision(on_grid, shape)}, *[dict[str, int]()] * (len(on_grid.experts) - 1))
    return [
        plan_pooling(replace(on_grid, experts=(expert,)), shape, text_tokens, macs)
        for expert, macs in zip(on_grid.experts, spent, strict=True)
    ]


def _decision(on_grid: AvgLlavaSettings, shape: ModelShape) -> int:
    assert shape.image_grid is not None
    tokens, width = on_grid.router_tokens(shape.image_grid), shape.decoder.hidden_size
    return router_macs(width, tokens, len(on_grid.experts), 1, on_grid.attention)


SPEC = MethodSpec(
    settings=AvgLlavaSettings,
    label="AVG-LLaVA",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.avg_llava.reducer:build",
    search={
        "rank_weight": Dimension("rank_weight", 0.1, 10.0, is_log=True),
        "experts": Dimension("experts", choices=(GRANULARITIES, GRANULARITIES[:4], GRANULARITIES[:3])),
    },
    needs_training="stage 2",
    is_query_aware=True,
    chooses="per sample",
    routes=lambda settings, shape: [(expert,) for expert in settings.on_grid(shape.image_grid).experts],
)
