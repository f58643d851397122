"""Settings, plan and search space of the static pyramid (paper table 3; spec base-models A.4 row 30)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.pooling.settings import PoolingSettings, plan_pooling
from dpn_model.methods.settings import parse_kernel, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

_KERNEL = r"[1-9]\d*x[1-9]\d*"


@dataclass(frozen=True)
class StaticSettings(PoolingSettings):
    """Settings of the static pyramid.

    Attributes:
        kernel: used at every site.
        site_kernels: one per entry of `sites`, in place of `kernel`.
    """

    name: ClassVar[str] = "static"
    kernel: str = setting("2x2", "the one kernel used at every site", check=parse_kernel)
    site_kernels: tuple[str, ...] | None = setting(
        None, "one per site, in place of kernel", check=parse_kernel, per_site="kernel"
    )

    def kernels_by_site(self, num_layers: int) -> dict[int, tuple[str, ...]]:
        """The one kernel of every site."""
        if self.site_kernels is not None:
            return {layer: (kernel,) for layer, kernel in self.spread("site_kernels", num_layers).items()}
        return dict.fromkeys(self.resolve_sites(num_layers), (self.kernel,))


def plan(settings: StaticSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """One route."""
    return plan_pooling(settings, shape, text_tokens, {})


def shorthand(name: str) -> Mapping[str, Any] | None:
    """`static_2x2`: one kernel; `static_1x1-2x2-2x2`: one per site, the control for a router that is a constant."""
    if re.fullmatch(rf"static_{_KERNEL}(-{_KERNEL})*", name) is None:
        return None
    kernels = name.partition("_")[2].split("-")
    return {"kernel": kernels[0]} if len(kernels) == 1 else {"site_kernels": kernels}


SPEC = MethodSpec(
    settings=StaticSettings,
    label="static pooling",
    plan=plan,
    parts="dpn_model.methods.static.reducer:build",
    search={"kernel": Dimension("kernel", choices=("1x2", "2x1", "2x2"))},
    shorthand=shorthand,
    needs_training="stage 2",
    budget=Dimension("kernel", choices=("2x2", "1x2", "1x1")),
    control={},
)
