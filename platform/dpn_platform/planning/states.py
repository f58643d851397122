"""Model states: bytes every rank keeps for weights, gradients and optimiser, and what a checkpoint of them weighs.

The bytes per parameter are those of DeepSpeed as `training.engine` configures it, measured on two ranks by
tests/benchmarks/zero_memory.py. Under bf16, AdamW works on fp32 masters (4 bytes) with two moments (8); ZeRO keeps such
masters under fp32 too, beside the weights. Offloading moves a rank's part of them, and of the gradients, to its host.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn_platform.config.training import TrainConfig

WEIGHT_BYTES = {"fp32": 4, "bf16": 2}
MASTER_BYTES = 4
#: fp32: AdamW's two moments, SGD's momentum
MOMENTS_BYTES = {"adamw": 8, "sgd": 4}
#: DeepSpeed's defaults: elements of a bucket of gradients on their way to other ranks (`reduce_bucket_size`), and of
#: gathered weights that ZeRO-3 lets live at a time (`stage3_max_live_parameters`)
BUCKET_ELEMENTS = 500_000_000
LIVE_ELEMENTS = 1_000_000_000
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class StateBytes:
    """Bytes on one device.

    Attributes:
        weights: all of them; under ZeRO-3 this rank's part, and what is gathered at a time.
        gradients: between backward pass and step; of the whole model below ZeRO-2.
        optimizer: fp32 masters and the optimiser's moments.
        buckets: gradients on their way to other ranks, allocated at their full size during a backward pass.
        host: what is offloaded to the host's memory; not in the total.
    """

    weights: int
    gradients: int
    optimizer: int
    buckets: int
    host: int = 0

    @property
    def total(self) -> int:
        """All four on the device."""
        return self.weights + self.gradients + self.optimizer + self.buckets


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters that are trained, and that are frozen; how many of the trained are adapters'."""

    trained: int
    frozen: int
    adapters: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.trained + self.frozen


def state_bytes(parameters: Parameters, train: TrainConfig) -> StateBytes:
    """Model states on one device (Rajbhandari et al. 2020, "ZeRO", section 3; spec performance 1.6).

    Args:
        parameters: of the model with its method.
        train: its precision, ZeRO stage and number of workers.
    """
    element, stage, ranks = WEIGHT_BYTES[train.precision], train.zero_stage, train.num_workers
    weights, live = element * parameters.total, 0
    if stage == 3:
        weights, live = _part(weights, ranks), element * min(LIVE_ELEMENTS, parameters.total)
    gradients = element * parameters.trained
    gradients = _part(gradients, ranks) if stage >= 2 else gradients
    optimizer = _optimizer_bytes(parameters.trained, train)
    optimizer = _part(optimizer, ranks) if stage >= 1 else optimizer
    host = 0
    if train.offload != "none" and stage >= 2:
        host, gradients, optimizer = gradients + optimizer, 0, 0
    if train.offload == "all" and stage == 3:
        host, weights = host + weights, 0
    # An allocation that is not written to takes room on a GPU alone.
    bucket = BUCKET_ELEMENTS if train.use_gpu else min(BUCKET_ELEMENTS, parameters.trained)
    return StateBytes(weights + live, gradients, optimizer, element * bucket if stage >= 1 else 0, host)


def checkpoint_bytes(parameters: Parameters, train: TrainConfig) -> int:
    """One checkpoint, all ranks together: weights as they are trained, masters and moments.

    Under ZeRO-3 the masters stand for the trained weights.
    """
    weights = parameters.frozen if train.zero_stage == 3 else parameters.total
    return WEIGHT_BYTES[train.precision] * weights + _optimizer_bytes(parameters.trained, train)


def export_bytes(parameters: Parameters) -> int:
    """The from_pretrained folder a run ends with: fp32 safetensors, adapters merged."""
    return 4 * (parameters.total - parameters.adapters)


def kept_bytes(parameters: Parameters, train: TrainConfig) -> int:
    """What a complete run leaves in storage: the checkpoints that are kept, and the export."""
    written = -(-train.steps // train.checkpoint_every_steps)
    kept = min(train.num_checkpoints_to_keep, written)
    return kept * checkpoint_bytes(parameters, train) + export_bytes(parameters)


def _optimizer_bytes(trained: int, train: TrainConfig) -> int:
    has_masters = train.precision == "bf16" or train.zero_stage > 0
    return (MOMENTS_BYTES[train.optimizer] + (MASTER_BYTES if has_masters else 0)) * trained


def _part(num_bytes: int, ranks: int) -> int:
    return -(-num_bytes // ranks)
