"""Settings, plan and geometry that all pooling methods share. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.pooling.grid import pooled_size
from dpn_model.methods.settings import SitedSettings, parse_kernel, setting
from dpn_model.methods.spec import Planned, image_rows


@dataclass(frozen=True)
class PoolingSettings(SitedSettings):
    """What every pooling method has.

    Attributes:
        pool: what an expert makes of a window: its maximum, its mean, or a learned depthwise convolution that starts
            as the mean ("conv"). 1x1 is the identity in all three.
        rounding: "floor" drops a border that fills no window, "ceil" pools what is there (max and avg only).
        min_tokens: an expert that would leave an image fewer tokens is not feasible, in training and inference alike;
            1x1, which takes nothing away, always is.
    """

    pool: Literal["max", "avg", "conv"] = setting("max", "what an expert makes of a window")
    rounding: Literal["floor", "ceil"] = setting("floor", "what becomes of a border that fills no window")
    min_tokens: int = setting(1, "an expert that would leave an image fewer is not feasible", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool == "conv" and self.rounding == "ceil":
            raise ValueError("rounding = 'ceil': a convolution needs whole windows; allowed with pool = max, avg")

    #: the setting that names the kernels, for refusals
    kernels_setting: ClassVar[str] = "kernel"

    def kernels_by_site(self, num_layers: int) -> dict[int, tuple[str, ...]]:
        """Names of the kernels to choose from at every site, ascending."""
        raise NotImplementedError


@dataclass(frozen=True)
class ExpertSettings(PoolingSettings):
    """Of methods that choose among experts.

    Attributes:
        experts: pooling kernels, height x width, of every site.
        site_experts: one expert set per entry of `sites`, in place of `experts`.
    """

    kernels_setting: ClassVar[str] = "experts"
    experts: tuple[str, ...] = setting(("1x1", "1x2", "2x2"), "pooling kernels, height x width", check=parse_kernel)
    site_experts: tuple[tuple[str, ...], ...] | None = setting(
        None, "one set per site, in place of experts", check=parse_kernel, per_site="experts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_experts("experts", self.experts)
        for number, experts in enumerate(self.site_experts or ()):
            _check_experts(f"site_experts[{number}]", experts)

    def kernels_by_site(self, num_layers: int) -> dict[int, tuple[str, ...]]:
        """The experts of every site."""
        if self.site_experts is not None:
            return self.spread("site_experts", num_layers)
        return dict.fromkeys(self.resolve_sites(num_layers), self.experts)


def _check_experts(name: str, experts: tuple[str, ...]) -> None:
    if not experts:
        raise ValueError(f"{name} is empty; name at least one kernel, for example 1x1")
    if len(set(experts)) != len(experts):
        raise ValueError(f"{name} = {list(experts)}: one is repeated; allowed: different kernels")


def plan_pooling(settings: PoolingSettings, shape: ModelShape, text_tokens: int, macs: Mapping[str, int]) -> Planned:
    """Cheapest and dearest route through the kernels of every site.

    Args:
        settings: of the method.
        shape: of the base.
        text_tokens: of the sample.
        macs: what the method spends beside the layers, by tag.

    Raises:
        ValueError: kernels that leave a picture no token.
    """
    layers = shape.decoder.num_layers
    sites = settings.kernels_by_site(layers)
    choices: tuple[Callable[..., Any], ...] = (min, max)
    ledgers = []
    for choose in choices:
        height, width = image_rows(shape)
        tokens, convolved = [height * width], 0
        for kernels in sites.values():
            kernel, (height, width) = choose(
                feasible_sizes(settings, kernels, height, width).items(), key=lambda item: item[1][0] * item[1][1]
            )
            tokens.append(height * width)
            area = math.prod(parse_kernel(kernel))
            convolved += tokens[-1] * area * shape.decoder.hidden_size if settings.pool == "conv" and area > 1 else 0
        spent = {**macs, "pooling": convolved} if convolved else macs
        ledgers.append(Ledger.of_stages(layers, list(sites), tokens, text_tokens, num_images=1, macs=spent))
    return Planned(*ledgers)


def feasible_sizes(
    settings: PoolingSettings, kernels: Sequence[str], height: int, width: int
) -> dict[str, tuple[int, int]]:
    """Grid by kernel, of those that leave enough.

    Raises:
        ValueError: none does.
    """
    sizes = {kernel: pooled_size(height, width, parse_kernel(kernel), settings.rounding) for kernel in kernels}
    floors = {kernel: 1 if kernel == "1x1" else settings.min_tokens for kernel in kernels}
    feasible = {kernel: size for kernel, size in sizes.items() if size[0] * size[1] >= floors[kernel]}
    if not feasible:
        raise ValueError(
            f"{settings.kernels_setting} = {', '.join(kernels)}: too large for a grid of {height}x{width} visual tokens"
        )
    return feasible
