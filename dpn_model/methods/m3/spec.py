"""Settings, plan and search space of Matryoshka Multimodal Models (arXiv 2405.17430; spec peer-methods 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.pooling.grid import pooled_size
from dpn_model.methods.pooling.settings import PoolingSettings, plan_pooling
from dpn_model.methods.settings import parse_kernel, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

#: the scale that leaves one token of a picture
ALL = "all"
#: from the dearest to the cheapest; of 24x24 tokens they leave 576, 144, 36, 9 and 1
SCALES = ("1x1", "2x2", "4x4", "8x8", ALL)


def check_scale(name: str) -> None:
    """Raise ValueError unless it is a kernel, or "all"."""
    if name != ALL:
        parse_kernel(name)


@dataclass(frozen=True)
class M3Settings(PoolingSettings):
    """Settings of M3.

    Attributes:
        sites: one, where pictures are pooled; the authors do it in front of the decoder, behind the projector.
        pool: the authors take the mean.
        scale: whoever runs the model picks it: tokens that become one, height x width, or "all" of them.
        scales: what it is trained with. Those too large for the base's grid are left out.
        training: the mean loss over all scales of every sample, as the authors do it, or one scale drawn for every
            micro-batch, which costs a fraction.
    """

    name: ClassVar[str] = "m3"
    kernels_setting: ClassVar[str] = "scale"
    sites: tuple[int, ...] | None = setting((0,), "after this layer; 0 is before the first", ge=0)
    pool: Literal["max", "avg", "conv"] = setting("avg", "what becomes of a window")
    scale: str = setting("1x1", "tokens that become one, height x width, or all", check=check_scale)
    scales: tuple[str, ...] = setting(SCALES, "scales it is trained with", check=check_scale)
    training: Literal["all", "sampled"] = setting("all", "all scales of a sample, or one drawn for a micro-batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is None or len(self.sites) != 1:
            raise ValueError(f"sites = {self.sites}: m3 pools once; allowed: one layer")
        if not self.scales:
            raise ValueError(f"scales is empty; name at least one, for example {', '.join(SCALES)}")

    def on_grid(self, grid: tuple[int, int] | None) -> M3Settings:
        """The same with kernels alone, those of `scales` that fit.

        Args:
            grid: visual tokens of one picture; None where every picture has its own, of which "all" is no kernel.

        Raises:
            ValueError: `scale` does not fit.
        """
        if grid is None:
            if self.scale == ALL:
                raise ValueError(
                    "scale = all: every picture of this base has its own grid, and all of it is no kernel; allowed: "
                    "height x width"
                )
            return replace(self, scales=tuple(name for name in self.scales if name != ALL))
        whole = f"{grid[0]}x{grid[1]}"
        scale, *scales = (whole if name == ALL else name for name in (self.scale, *self.scales))
        fitting = [name for name in scales if 0 not in pooled_size(*grid, parse_kernel(name), self.rounding)]
        if 0 in pooled_size(*grid, parse_kernel(scale), self.rounding):
            raise ValueError(f"scale = {scale}: too large for a grid of {whole} visual tokens")
        return replace(self, scale=scale, scales=tuple(dict.fromkeys(fitting)))

    def kernels_by_site(self, num_layers: int) -> dict[int, tuple[str, ...]]:
        """The picked scale."""
        return dict.fromkeys(self.resolve_sites(num_layers), (self.scale,))


def plan(settings: M3Settings, shape: ModelShape, text_tokens: int) -> Planned:
    """One route, at the picked scale."""
    return plan_pooling(settings.on_grid(shape.image_grid), shape, text_tokens, {})


def trains(settings: M3Settings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """Every scale, or the one that is drawn."""
    scales = settings.on_grid(shape.image_grid).scales
    copies = [plan(replace(settings, scale=scale), shape, text_tokens) for scale in scales]
    if settings.training == "all":
        return copies
    by_cost = sorted((copy.dearest for copy in copies), key=Ledger.mean_visual_tokens)
    return [Planned(by_cost[0], by_cost[-1])]


SPEC = MethodSpec(
    settings=M3Settings,
    label="M3",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.m3.reducer:build",
    search={"scale": Dimension("scale", choices=SCALES)},
    needs_training="stage 2",
    budget=Dimension("scale", choices=tuple(reversed(SCALES))),
)
