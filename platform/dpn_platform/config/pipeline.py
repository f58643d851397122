"""The section `pipeline` of an experiment: what a scheduled slot does with the study."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from dpn_platform.config.aliases import CHAMPION, KNEE, alias_of
from dpn_platform.config.section import Section

Alias = Annotated[str, AfterValidator(alias_of)]


class RefreshConfig(Section):
    """Where new annotations appear: what `dpn data ingest` takes. Shards of rows that did not change are kept."""

    source: str = Field(description="folder of {split}.json, .jsonl or .csv and images, as LLaVA ships it")
    images: tuple[str, ...] = Field((), description="folders that image paths are relative to; default: source")
    max_quarantined: float = Field(0.05, ge=0, le=1)


class PipelineConfig(Section):
    """One slot: refresh the data, extend the study, look at the guards, promote, report, tell."""

    trials: int = Field(4, ge=0, description="proposals that a slot adds")
    device_hours: float | None = Field(None, gt=0, description="that a slot may take")
    refresh: RefreshConfig | None = None
    aliases: tuple[Alias, ...] = (CHAMPION, KNEE, "budget-0.40")
    guards: tuple[str, ...] = Field((), description="benchmarks that may not get worse; among eval.benchmarks")
    margin: float = Field(1.0, ge=0, description="points that a guard may lose, within its interval")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="over all slots together")
    every_hours: float = Field(24.0, gt=0, description="between slots, to say which were missed")
    webhook_variable: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*$", description="environment variable with the address that is told"
    )
