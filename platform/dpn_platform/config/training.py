"""The section `train` of an experiment: the recipe of one training run, and its adapters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpn_platform.config.guards import GuardConfig
from dpn_platform.config.section import Section

Beta = Annotated[float, Field(ge=0, lt=1)]


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
    embedding_lr: float | None = Field(None, ge=0, description="of words, read and written; default: lr")
    slow_vision_lr: float | None = Field(None, ge=0, description="of the slow of two towers; default: vision_lr")
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
