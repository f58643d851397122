"""What ends a run before its last step; nothing here is on unless it is set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from dpn_platform.config.section import Section

Band = tuple[float, float]


class GuardConfig(Section):
    """Budgets of a run: what its routers may spend, and how long it may take."""

    flops_ratio: Band | None = Field(None, description="[low, high] for train/flops_ratio_swiglu")
    keep_ratio: Band | None = Field(None, description="[low, high] for router/keep_ratio")
    max_device_hours: float | None = Field(None, gt=0, description="workers x hours, over all attempts")
    grace_steps: int = Field(100, ge=0, description="no ratio is judged before this step")
    patience_lines: int = Field(3, gt=0, description="metric lines in a row outside a band before it counts")
    action: Literal["stop", "warn"] = "stop"

    @field_validator("flops_ratio", "keep_ratio")
    @classmethod
    def _is_a_band(cls, band: Band | None, info: ValidationInfo) -> Band | None:
        if band is not None and not 0 <= band[0] <= band[1]:
            raise ValueError("must be [low, high] with 0 <= low <= high")
        return band
