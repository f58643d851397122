"""The DeepSpeed engine: ZeRO, offloading, consolidated weights. Knows nothing of Ray or storage."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.lora import merged_weights
from dpn_platform.training.optimizer import ADAPTER, build_optimizer, build_schedule
from dpn_platform.training.sentinel import Sentinel, is_needed


def build_engine(model: DpnForConditionalGeneration, train: TrainConfig, *, universal: bool = False) -> Any:
    """A DeepSpeed engine around the model, in the process group that is already there (Ray Train's).

    Args:
        model: on the host.
        train: the run.
        universal: the checkpoint it will load is a universal one, see `resharding`.
    """
    # Said, not searched for: a run on CPUs stays there although its machine may have a GPU.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if train.use_gpu else "cpu")
    deepspeed = import_deepspeed()
    model.join_ranks(train.zero_stage == 3)  # the held-out loss: ranks gather weights where a module runs
    optimizer = build_optimizer(model, train)
    sentinel = Sentinel(optimizer, train.max_grad_norm) if is_needed(train) else None
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda optimizer: build_schedule(optimizer, train),
        config={**deepspeed_config(train), "checkpoint": {"load_universal": universal}},
        dist_init_required=False,
    )
    engine.sentinel = sentinel
    return engine


def deepspeed_config(train: TrainConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration of a recipe."""
    zero: dict[str, Any] = {"stage": train.zero_stage}
    on_host = {"device": "cpu", "pin_memory": train.use_gpu}
    if train.offload != "none":
        zero["offload_optimizer"] = on_host
    if train.offload == "all":
        zero["offload_param"] = on_host
    return {
        "train_batch_size": train.global_batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "gradient_clipping": 0.0 if is_needed(train) else train.max_grad_norm,  # the sentinel clips
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": train.precision == "bf16"},
        "steps_per_print": 10**9,
    }


def import_deepspeed() -> Any:
    """DeepSpeed without what it would drag in or compile."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with _hidden("mlflow"):  # its autotuner's only: half of the import time
        import deepspeed

    # The first optimiser step imports Muon, which asks for compilation on import: 4 s of Inductor in every worker.
    with _set("TORCHDYNAMO_DISABLE", "1"), contextlib.suppress(ImportError):
        import deepspeed.runtime.zero.muon.original_muon
    # The shared-memory collectives are compiled at the first start (40 s, needs a compiler) and gain nothing on gloo.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed


def consolidated_weights(engine: Any) -> dict[str, Tensor] | None:
    """All weights as fp32 on the host of rank 0, adapters merged; None on the others. Collective.

    Under ZeRO-3 one weight at a time is gathered: no device holds the whole model. Under bf16 these are the rounded
    weights the model computes with, not the optimiser's masters.
    """
    is_writer = dist.get_rank() == 0
    gathered = import_deepspeed().zero.GatheredParameters
    state = {}
    for name, tensor in engine.module.state_dict(keep_vars=True).items():
        with gathered([tensor]) if hasattr(tensor, "ds_id") else contextlib.nullcontext():
            if is_writer:
                state[name] = tensor.detach().to("cpu", torch.float32, copy=True)
    if not is_writer:
        return None
    return merged_weights(engine.module, state) if any(ADAPTER in name for name in state) else state


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes `import package` fail inside, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


@contextlib.contextmanager
def _set(variable: str, value: str) -> Iterator[None]:
    """Sets an environment variable inside."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
