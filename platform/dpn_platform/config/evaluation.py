"""The section `eval` of an experiment: which benchmarks, what counts as the accuracy, and which variants of the model.

Names of benchmarks are checked where benchmarks are known, by `evaluation.axis`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from dpn_platform.config.section import Section

HELD_OUT = "heldout"
Budget = Annotated[float, Field(gt=0, le=1)]


class BenchmarkSettings(Section):
    """One benchmark and where its files are; of one that asks a data set, nothing where that is `data`."""

    name: str = Field(min_length=1)
    root: str | None = Field(None, description="LLaVA's eval/ folder, the Hugging Face data set, or a published one")
    questions: str | None = Field(None, description="question file or parquet folder, where it is elsewhere")
    annotations: str | None = Field(None, description="gold answers, where they are elsewhere")
    images: str | None = Field(None, description="folder of the pictures, where it is elsewhere")
    layout: str | None = Field(None, description="llava or parquet; default: what is there")
    split: str | None = Field(None, description="of the layout; default: its first")
    variant: str | None = Field(None, description="convention: reference (default), harness, ...")
    options: dict[str, str] | None = Field(None, description="of its scoring, such as {sentence_model: FOLDER}")

    @model_serializer(mode="wrap")
    def _without_no_options(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Experiments that have none keep the fingerprint that they had before there were any."""
        plain: dict[str, Any] = values(self)
        return {name: value for name, value in plain.items() if name != "options" or value is not None}


class MeanSettings(Section):
    """A mean over benchmarks, MME as MME/20, under a name of its own."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    of: Annotated[tuple[str, ...], Field(min_length=1)]


class VariantSettings(Section):
    """A method without weights, attached to the checkpoint for the evaluation; `method` as in an experiment."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    method: dict[str, Any]

    @field_validator("method")
    @classmethod
    def _is_named(cls, method: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(method.get("name"), str):
            raise ValueError("needs the key name, for example {name: static, kernel: 2x2}")
        return method


class EvalConfig(Section):
    """Evaluation of a checkpoint."""

    benchmarks: Annotated[tuple[BenchmarkSettings, ...], Field(min_length=1)] = Field(
        (BenchmarkSettings(name=HELD_OUT),),
        description="names, or {name: gqa, root: s3://...}; heldout, detection, referring, regions, counting ask data",
    )
    accuracy: str | MeanSettings | None = Field(
        None,
        description="a study's axis: a benchmark, {name: my-mean, of: [gqa, pope]}, or AVG, the paper's mean of eight; "
        "default: the first benchmark",
    )
    budgets: tuple[Budget, ...] = Field((), description="also at these FLOPs ratios of the budget dial")
    routes: Literal["own", "all"] = Field(
        "own", description="all: checkpoints whose method chooses among routes also on every one of them"
    )
    variants: tuple[VariantSettings, ...] = Field((), description="also with these methods, which have no weights")
    limit: int | None = Field(None, gt=0, description="at most this many samples; default all")
    batch_size: int = Field(64, gt=0)
    max_new_tokens: int = Field(4, gt=0, description="of the held-out split; other benchmarks have their own limits")
    num_actors: int = Field(1, gt=0)
    seed: int = Field(0, description="of the bootstrap")

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _names_stand_for_entries(cls, entries: Any) -> Any:
        if not isinstance(entries, list | tuple):
            return entries
        return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]

    @model_validator(mode="after")
    def _each_once(self) -> EvalConfig:
        names = [entry.name for entry in self.benchmarks]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"benchmarks: '{repeated[0]}' is listed twice")
        if len(set(self.budgets)) != len(self.budgets):
            raise ValueError("budgets: one is given twice")
        return self
