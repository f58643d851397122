"""The experiment, typed: every key a YAML may hold, its meaning, its range and its default.

Models are frozen and refuse unknown keys; `load.py` turns pydantic's report into one line with the
nearest valid name. Nothing here imports torch or ray, so that `dpn --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, create_model, model_validator

from dpn_model.methods.registry import DEFAULT, DEFAULT_CONTROLS
from dpn_platform.config.controls import Control, all_control_trials
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.evaluation import EvalConfig
from dpn_platform.config.guards import GuardConfig
from dpn_platform.config.method import MethodConfig, method_config, method_section, without_others
from dpn_platform.config.search import SearchConfig, with_defaults
from dpn_platform.config.section import Section
from dpn_platform.config.tracking import TrackingConfig

SourceWeight = Annotated[float, Field(ge=0, le=100)]
Beta = Annotated[float, Field(ge=0, lt=1)]


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


class LoraSettings(Section):
    """Low-rank adapters (LoRA, Hu et al. 2021); the defaults are those of LLaVA's scripts."""

    rank: int = Field(128, gt=0)
    alpha: int = Field(256, gt=0, description="an adapter's output is scaled by alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="names of linear layers of the language model; default: all"
    )


class TrainConfig(Section):
    """One run of the training loop."""

    steps: int = Field(200, gt=0, description="optimiser steps")
    global_batch_size: int = Field(32, gt=0)
    micro_batch_size: int = Field(32, gt=0, description="per worker and accumulation step")
    num_workers: int = Field(1, gt=0)
    use_gpu: bool = False
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int = Field(0, ge=0, description="torch threads; 0 leaves torch's own choice")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: its momentum is the first of betas")
    lr: float = Field(1e-3, ge=0, description="peak, of the language model or its adapters; a rate of 0 freezes a part")
    projector_lr: float | None = Field(None, ge=0, description="default: lr")
    router_lr: float | None = Field(None, ge=0, description="default: lr")
    vision_lr: float | None = Field(None, ge=0, description="default: lr")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; norms and biases are spared")
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    zero_stage: Literal[0, 1, 2, 3] = 1
    offload: Literal["none", "optimizer", "all"] = Field(
        "none", description="kept in host memory: optimiser states (zero_stage 2, 3), or weights as well (3)"
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = Field(False, description="keep each layer's input and compute the rest again")
    checkpoint_every_steps: int = Field(100, gt=0)
    checkpoint_every_minutes: float | None = Field(
        None, gt=0, description="besides, and looked at with every metric line; whichever comes first"
    )
    log_every_steps: int = Field(10, gt=0)
    num_checkpoints_to_keep: int = Field(2, gt=0)
    max_failures: int = Field(1, ge=0)
    peak_tflops: float | None = Field(
        None, gt=0, description="of one worker's device, for train/mfu; default: the measured peak of a known GPU"
    )
    guards: GuardConfig = GuardConfig()
    eval_every_steps: int | None = Field(None, gt=0, description="eval/loss_lm on the held-out split this often")
    eval_samples: int = Field(256, gt=0, description="held-out rows it is measured on")
    seed: int = 0
    lora: LoraSettings | None = Field(None, description="train adapters in place of the language model")

    @model_validator(mode="after")
    def _offload_fits_the_stage(self) -> TrainConfig:
        allowed = {"none": (0, 1, 2, 3), "optimizer": (2, 3), "all": (3,)}[self.offload]
        if self.zero_stage not in allowed:
            stages = " or ".join(map(str, allowed))
            raise ValueError(f"offload {self.offload} needs zero_stage {stages}, this is {self.zero_stage}")
        return self

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> TrainConfig:
        if self.lora is not None and self.lr == 0:
            raise ValueError("lora trains adapters of the language model at lr, which is 0; allowed: lr above 0")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> TrainConfig:
        per_step = self.micro_batch_size * self.num_workers
        if self.global_batch_size % per_step:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"micro_batch_size x num_workers = {per_step}"
            )
        return self

    @model_validator(mode="after")
    def _lines_are_written_where_it_is_evaluated(self) -> TrainConfig:
        if self.eval_every_steps is not None and self.eval_every_steps % self.log_every_steps:
            raise ValueError(
                f"eval_every_steps {self.eval_every_steps} is not a multiple of log_every_steps {self.log_every_steps}"
            )
        return self

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches per worker and optimiser step."""
        return self.global_batch_size // (self.micro_batch_size * self.num_workers)


class StorageConfig(Section):
    """Where runs and studies are kept."""

    runs_uri: str = "s3://dpn/runs"


class EarlyStopping(Section):
    """A trial is hopeless when the running mean of its training loss is far above the study's best."""

    enabled: bool = True
    grace_steps: int = Field(80, gt=0, description="no trial is judged before this step")
    loss_margin: float = Field(
        1.0, gt=0, description="stopped when loss_lm exceeds the dense control's by more, in nats per token"
    )


class SweepConfig(Section):
    """A study: controls always, then `num_trials` trials of the searched method that Optuna proposes."""

    num_trials: int = Field(6, gt=0)
    max_concurrent_trials: int = Field(1, gt=0)
    search: SearchConfig = Field(SearchConfig(), validate_default=False)
    controls: tuple[Control, ...] = Field(DEFAULT_CONTROLS, description="always run, under the same recipe")
    early_stopping: EarlyStopping = EarlyStopping()
    flops_convention: Literal["eq8", "swiglu"] = "swiglu"
    seed: int = 0


class ExperimentConfig(Section):
    """Everything one run or study needs; `sweep` is present in a sweep's YAML only."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    method: SerializeAsAny[MethodConfig] = Field(default_factory=lambda: method_config({}))
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()
    sweep: SweepConfig | None = None

    @model_validator(mode="after")
    def _captions_have_no_router(self) -> ExperimentConfig:
        if self.model.template == "plain" and self.method.spec.needs_router_token:
            raise ValueError(
                "model.template plain has no question that <ROUTER> could end; allowed: methods that need none, "
                f"this is {self.method.name}"
            )
        return self

    @model_validator(mode="after")
    def _sweep_decides(self) -> ExperimentConfig:
        """What trials set cannot be set beside them; entries per site are as many as sites."""
        if self.sweep is None:
            return self
        settings = self.method.model_dump()
        if self.eval.budgets:
            raise ValueError(
                "eval.budgets: a study's checkpoints have no calibrated dial; calibrate one (dpn_model.calibrate) and "
                "give its budgets to `dpn evaluate`"
            )
        if not self.sweep.search.dimensions:
            raise ValueError(f"sweep.search: {self.sweep.search.method} varies nothing by default; name a setting")
        for dimension in self.sweep.search.dimensions.values():
            for per_site in (f"site_{dimension.setting}", f"site_{dimension.setting}s"):
                if settings.get(per_site) is not None:
                    raise ValueError(f"method.{per_site} cannot be set in a sweep that varies {dimension.setting}")
        for trial in all_control_trials(self.sweep.controls):
            sites = trial.method.get("sites", settings.get("sites"))
            num_sites = 3 if sites is None else len(sites)
            for key, value in trial.method.items():
                if key.startswith("site_") and value is not None and len(value) != num_sites:
                    what = key.removeprefix("site_")
                    raise ValueError(f"control {trial.key} has {len(value)} {what} for {num_sites} sites")
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
