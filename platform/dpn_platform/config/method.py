"""The method's section of an experiment: every setting of `methods.method.Method`, with its range and default.

Nothing here imports torch, so that `dpn --help` stays fast; a test keeps the two lists equal.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dpn_platform.config.section import Section

MethodName = Literal["dense", "dpn", "static", "random_kernel", "random_drop"]


def _checked_kernel(name: str) -> str:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", name):
        raise ValueError("must be height x width, for example 1x1, 1x2, 2x2")
    return name


#: as in `dpn_model.methods.method`
SCORE_NEEDS = {"selection": ("sample",), "infeasible": ("renormalise",), "scaling": ("off", "on")}

Kernel = Annotated[str, AfterValidator(_checked_kernel)]
ExpertSet = Annotated[tuple[Kernel, ...], Field(min_length=1)]
Site = Annotated[int, Field(ge=1)]


class RoutingLossConfig(Section):
    """Hinge of eq. 6: weight * max(0, target - mean value of the decisions)."""

    weight: float = Field(0.01, ge=0, description="λ of eq. 7")
    target: float = Field(1.5, ge=0, description="t of eq. 6, on the scale of `compression`")
    value: Literal["top1", "expectation", "expert_mean"] = "top1"
    aggregation: Literal["batch", "site", "sample"] = "batch"
    compression: Literal["log2_area", "area", "sqrt_area", "mean_stride"] = "log2_area"
    is_detached: bool = Field(False, description="no gradient flows, as in the authors' release")


class MethodConfig(Section):
    """How visual tokens are reduced inside the LLM. Sites are 1-based: 'after layer N'."""

    name: MethodName = "dpn"
    sites: tuple[Site, ...] | None = Field(None, description="after these layers; default 1/4, 1/2, 3/4 of the depth")
    experts: ExpertSet = Field(("1x1", "1x2", "2x2"), description="pooling kernels, height x width")
    site_experts: tuple[ExpertSet, ...] | None = Field(None, description="one set per site, in place of experts")
    kernel: Kernel = Field("2x2", description="static: the one kernel used at every site")
    site_kernels: tuple[Kernel, ...] | None = Field(None, description="static: one per site, in place of kernel")
    pool: Literal["max", "avg", "conv"] = Field("max", description="what an expert makes of a window")
    rounding: Literal["floor", "ceil"] = Field("floor", description="what becomes of a border that fills no window")
    min_tokens: int = Field(1, ge=1, description="an expert that would leave an image fewer is not feasible")
    positions: Literal["contiguous", "keep"] = "contiguous"
    keep_ratio: float = Field(0.5, gt=0, le=1, description="random_drop: share of visual tokens kept at each site")
    router: Literal["v1", "linear"] = "v1"
    router_hidden_divisor: int = Field(4, ge=1, description="v1: hidden width is the model's over this")
    router_init: Literal["release", "zero"] = "release"
    routing_token: Literal["mean", "first", "last"] = Field(
        "mean",
        description="which turns' routing tokens are read; mean and last let a first answer's route see later turns, "
        "first does not; one turn: all the same",
    )
    temperature: float = Field(10.0, gt=0)
    selection: Literal["sample", "top1", "gumbel"] = "sample"
    infeasible: Literal["renormalise", "resample"] = "renormalise"
    scaling: Literal["on", "off", "straight_through"] = "on"
    router_gradient: Literal["scale", "score"] = Field(
        "scale",
        description="how the language loss reaches the router: as in the paper, or also by its score function, which "
        "needs selection sample, infeasible renormalise and scaling off or on",
    )
    routing_loss: RoutingLossConfig = RoutingLossConfig()

    @model_validator(mode="after")
    def _score_is_a_gradient(self) -> MethodConfig:
        if self.router_gradient == "score":
            for name, allowed in SCORE_NEEDS.items():
                if (given := getattr(self, name)) not in allowed:
                    raise ValueError(f"router_gradient score needs {name} {' or '.join(allowed)}, this is {given}")
        return self
