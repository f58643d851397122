"""The experiment, typed: every key a YAML may hold, its meaning, its range and its default.

Models are frozen and refuse unknown keys; `load.py` turns pydantic's report into one line with the
nearest valid name. Nothing here imports torch or ray, so that `dpn --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, create_model, model_validator

from dpn_model.methods.registry import DEFAULT
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.evaluation import HELD_OUT, EvalConfig
from dpn_platform.config.method import MethodConfig, method_config, method_section, without_others
from dpn_platform.config.objectives import ACCURACY
from dpn_platform.config.pipeline import PipelineConfig
from dpn_platform.config.search import SECTIONS, with_defaults
from dpn_platform.config.section import Section
from dpn_platform.config.study_checks import check_study
from dpn_platform.config.sweep import SweepConfig
from dpn_platform.config.tracking import TrackingConfig
from dpn_platform.config.training import TrainConfig

SourceWeight = Annotated[float, Field(ge=0, le=100)]


class DataConfig(Section):
    """Where samples come from and how they become batches. `uri`: a published data set (folder of `manifest.json`)."""

    uri: str = "s3://dpn/datasets/demo"
    train_split: str = "train"
    eval_split: str = "test"
    decode: Literal["full", "fast"] = Field(
        "full", description="fast: reduced JPEG decode, resize before padding (about 48 dB from full)"
    )
    batching: Literal["samples", "tokens"] = Field("samples", description="what fills a micro-batch")
    tokens_per_batch: int | None = Field(
        None,
        gt=0,
        description="batching tokens: decoder tokens of a micro-batch; a step has global_batch_size / micro_batch_size",
    )
    grouping: Literal["mixed", "modality"] = Field("mixed", description="modality: pictures and texts in own steps")
    balance: bool = Field(False, description="deal a step's samples by expected cost; tokens and modality always do")
    source_weights: dict[str, SourceWeight] = Field({}, description="times per epoch a source's rows occur; default 1")
    positives: Literal["exact", "iou50"] = Field(
        "exact", description="of rows with boxes: iou50 counts proposals as answers that overlap one by half and more"
    )
    allow_unknown_answers: bool = Field(False, description="train on answers with words unknown to the base")

    @model_validator(mode="after")
    def _budget_goes_with_tokens(self) -> DataConfig:
        if (self.batching == "tokens") != (self.tokens_per_batch is not None):
            raise ValueError("batching: tokens and tokens_per_batch go together: give both or neither")
        return self


class ModelConfig(Section):
    """The base model: a `from_pretrained` folder, or a tiny LLaVA drawn from noise; to plan, a name will do."""

    base: str = Field(
        "dpn_model/assets/tiny-llava",
        description="from_pretrained folder (path or URI), 'tiny', or a named base to plan",
    )
    template: Literal["plain"] | None = Field(
        None, description="plain: pictures and their captions, to pretrain a projector; default: the base's own"
    )


class StorageConfig(Section):
    """Where runs and studies are kept."""

    runs_uri: str = "s3://dpn/runs"


class ExperimentConfig(Section):
    """Everything one run or study needs; `sweep` is present in a sweep's YAML only, `pipeline` in a schedule's."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    method: SerializeAsAny[MethodConfig] = Field(default_factory=lambda: method_config({}))
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()
    sweep: SweepConfig | None = None
    pipeline: PipelineConfig | None = None

    @model_validator(mode="after")
    def _captions_have_no_router(self) -> ExperimentConfig:
        if self.model.template == "plain" and self.method.spec.needs_router_token:
            raise ValueError(
                "model.template plain has no question that <ROUTER> could end; allowed: methods that need none, "
                f"this is {self.method.name}"
            )
        return self

    @model_validator(mode="after")
    def _pipeline_has_a_study(self) -> ExperimentConfig:
        if self.pipeline is None:
            return self
        if self.sweep is None:
            raise ValueError("pipeline: a pipeline goes on with a study; add the section sweep")
        asked = [entry.name for entry in self.eval.benchmarks]
        if missing := [name for name in self.pipeline.guards if name not in asked]:
            raise ValueError(f"pipeline.guards: {missing[0]} is not among eval.benchmarks: {', '.join(asked)}")
        return self

    @model_validator(mode="after")
    def _is_a_study(self) -> ExperimentConfig:
        if self.sweep is not None:
            if self.eval.budgets:
                raise ValueError(
                    "eval.budgets: most of a study's checkpoints have no calibrated dial; give `dial` to the one "
                    "control that has, or budgets to `dpn evaluate`"
                )
            check_study(self.sweep, self.method, {name: getattr(self, name) for name in SECTIONS})
            asked = [entry.name for entry in self.eval.benchmarks]
            named = [name.partition("/")[2] for name in self.sweep.objectives if name.startswith(f"{ACCURACY}/")]
            if unasked := [name for name in named if name not in asked]:
                raise ValueError(f"sweep.objectives: {unasked[0]} is not among eval.benchmarks: {', '.join(asked)}")
            if self.sweep.early_stopping.questions and asked != [HELD_OUT]:
                raise ValueError(
                    f"sweep.early_stopping.questions judges answers to {HELD_OUT}, eval.benchmarks asks "
                    f"{', '.join(asked)}"
                )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.model_dump(mode="json"),)


def _restored(values: Mapping[str, Any]) -> ExperimentConfig:
    """In another process, which may lack a package that the method is from."""
    try:
        return parse_values(values)
    except ValueError as error:
        raise ConfigError(f"the configuration cannot be read in this process: {' '.join(str(error).split())}") from None


@cache
def experiment_section(method: str) -> type[ExperimentConfig]:
    """The experiment with the settings of one method, which decide what its section may hold.

    Raises:
        ValueError: there is no such method.
    """
    section = method_section(method)
    return create_model(
        "ExperimentConfig",
        __base__=ExperimentConfig,
        __module__=__name__,
        method=(SerializeAsAny[section], Field(default_factory=section)),  # type: ignore[valid-type, misc]
    )


def parse_values(values: Mapping[str, Any]) -> ExperimentConfig:
    """Validate plain values; see `load.parse_config` for refusals in one line.

    Raises:
        ValueError: an unknown method.
        pydantic.ValidationError: everything else that is wrong.
    """
    document = dict(values)
    method = document.get("method") or {}
    name = DEFAULT
    if isinstance(method, Mapping):
        name = str(method.get("name", DEFAULT))
        document["method"] = without_others({**method, "name": name})
    sweep = document.get("sweep")
    if isinstance(sweep, Mapping):
        document["sweep"] = {**sweep, "search": with_defaults(sweep.get("search"), name)}
    return experiment_section(name).model_validate(document)
