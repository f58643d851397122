"""Weights, gradients, optimiser and checkpoints as planned, against what DeepSpeed was seen to keep."""

import pytest

from dpn_platform.config.training import TrainConfig
from dpn_platform.planning.states import (
    BUCKET_ELEMENTS,
    LIVE_ELEMENTS,
    Parameters,
    checkpoint_bytes,
    export_bytes,
    kept_bytes,
    state_bytes,
)

# Bytes per parameter on one of two ranks, printed by tests/benchmarks/zero_memory.py (DeepSpeed 0.19, torch 2.13) for
# 64 matrices of 256 x 256: after a step, after the first micro-batch of the next one, and both ranks' checkpoint.
# One matrix, a sixty-fourth, that DeepSpeed still refers to is in the first two of ZeRO-1 and 2. ZeRO-3 leaves matrices
# this small gathered, and keeps its gradients' buffer from step to step.
SEEN = {
    (0, "fp32"): (12.000, 16.000, 12.019),
    (0, "bf16"): (14.000, 16.000, 14.023),
    (1, "fp32"): (10.063, 14.063, 16.028),
    (1, "bf16"): (8.031, 10.031, 14.028),
    (2, "fp32"): (10.063, 12.063, 16.028),
    (2, "bf16"): (8.031, 9.031, 14.028),
    (3, "fp32"): (14.000, 14.000, 12.034),
    (3, "bf16"): (10.000, 10.000, 12.034),
}
SIZE = 64 * 256 * 256
ONE_MATRIX = 4 / 64 + 0.001
FILE_HEADERS = 0.035


def train(stage, precision, **more):
    return TrainConfig(zero_stage=stage, precision=precision, num_workers=2, micro_batch_size=16, **more)


@pytest.mark.parametrize(("stage", "precision"), SEEN)
def test_states_are_those_deepspeed_keeps(stage, precision):
    states = state_bytes(Parameters(SIZE, 0), train(stage, precision))
    held = (states.weights + states.optimizer) / SIZE
    after_step, before_reduction, _ = SEEN[stage, precision]
    assert before_reduction - held - states.gradients / SIZE == pytest.approx(0, abs=ONE_MATRIX)
    if stage < 3:
        assert after_step - held == pytest.approx(0, abs=ONE_MATRIX)


@pytest.mark.parametrize(("stage", "precision"), SEEN)
def test_checkpoints_weigh_what_deepspeed_writes(stage, precision):
    planned = checkpoint_bytes(Parameters(SIZE, 0), train(stage, precision)) / SIZE
    assert SEEN[stage, precision][2] - planned == pytest.approx(0, abs=FILE_HEADERS)


def test_frozen_parameters_have_weights_only():
    whole, frozen = Parameters(1000, 0), Parameters(400, 600)
    recipe = train(2, "bf16")
    before, after = state_bytes(whole, recipe), state_bytes(frozen, recipe)
    assert after.weights == before.weights == 2000
    assert (after.gradients, after.optimizer) == (400, 400 * 12 // 2)
    assert checkpoint_bytes(frozen, recipe) == 2 * 1000 + 12 * 400


def test_zero_2_fits_7b_as_the_specification_says():
    """Performance 1.6: 13.5 GB of weights, 13.5 GB of gradients and 81 GB of optimiser state sharded over 8."""
    recipe = TrainConfig(
        zero_stage=2, precision="bf16", num_workers=8, micro_batch_size=16, global_batch_size=128, use_gpu=True
    )
    states = state_bytes(Parameters(6_738_000_000, 0), recipe)
    assert states.weights / 1e9 == pytest.approx(13.5, abs=0.05)
    assert 8 * states.gradients / 1e9 == pytest.approx(13.5, abs=0.05)
    assert 8 * states.optimizer / 1e9 == pytest.approx(81, abs=0.2)
    assert states.buckets == 2 * BUCKET_ELEMENTS


def test_zero_3_gathers_no_more_than_deepspeed_lets_live():
    parameters = Parameters(10 * LIVE_ELEMENTS, 0)
    assert state_bytes(parameters, train(3, "bf16")).weights == 2 * 5 * LIVE_ELEMENTS + 2 * LIVE_ELEMENTS


def test_storage_holds_the_checkpoints_kept_and_the_export():
    parameters = Parameters(100, 0)
    recipe = train(1, "fp32", steps=100, checkpoint_every_steps=10, num_checkpoints_to_keep=3)
    assert kept_bytes(parameters, recipe) == 3 * 1600 + export_bytes(parameters)
    short = recipe.model_copy(update={"steps": 15})
    assert kept_bytes(parameters, short) == 2 * 1600 + 400


def test_what_is_offloaded_is_on_the_host():
    parameters = Parameters(1000, 0)
    kept = {stage: state_bytes(parameters, train(stage, "bf16")) for stage in (2, 3)}
    states = state_bytes(parameters, train(2, "bf16", offload="optimizer"))
    assert (states.gradients, states.optimizer, states.weights) == (0, 0, kept[2].weights)
    assert states.host == kept[2].gradients + kept[2].optimizer
    everything = state_bytes(parameters, train(3, "bf16", offload="all"))
    assert everything.host == kept[3].gradients + kept[3].optimizer + 1000
    assert everything.weights == kept[3].weights - 1000


def test_sgd_keeps_one_moment():
    adamw, sgd = (checkpoint_bytes(Parameters(1000, 0), train(2, "bf16", optimizer=name)) for name in ("adamw", "sgd"))
    assert adamw - sgd == 4000


def test_adapters_are_merged_in_the_export():
    assert export_bytes(Parameters(trained=50, frozen=1000, adapters=40)) == 4 * 1010
