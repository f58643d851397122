"""Checkpoints without Ray: space on the disk, another model, another number of workers, when they are due, export."""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig
from dpn_platform.training import callbacks, checkpoints, local_space
from dpn_platform.training.callbacks import Checkpointing
from dpn_platform.training.checkpoints import CheckpointWriter, Origin, parameter_shapes, shards_name
from dpn_platform.training.engine import build_engine, consolidated_weights
from dpn_platform.training.loop import StepResult, run_loop
from dpn_platform.training.place import OwnProcess
from dpn_platform.training.resharding import convert_to_universal
from dpn_platform.training.resume import Resume

ORIGIN = Origin("file:///runs/x", "f1")
# Measured: 0; the universal form holds the same fp32 numbers.
TOLERANCE = 1e-6


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of checkpoints, empty."""
    monkeypatch.setattr(local_space.tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Losses:
    """Callback that keeps every step's loss."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        self.values.append(float(result.loss_lm))
        return None


def train_config(zero_stage: int) -> TrainConfig:
    return TrainConfig(
        steps=6, global_batch_size=4, micro_batch_size=4, warmup_ratio=0.5, vision_lr=0, zero_stage=zero_stage
    )


def losses_of(engine: Any, build_batch: Any, train: TrainConfig, steps: range) -> list[float]:
    log = Losses()
    until = train.model_copy(update={"steps": steps.stop})
    run_loop(engine, batches_from(build_batch, steps.start), until, start_step=steps.start, callbacks=[log])
    return log.values


def batches_from(build_batch: Any, step: int) -> Iterator[Any]:
    return (build_batch(range(4 * number, 4 * number + 4)) for number in itertools.count(step))


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 3])
def test_universal_form_gives_back_weights_moments_and_schedule(
    process_group, build_tiny_model, build_batch, tmp_path: Path, zero_stage: int
) -> None:
    train, tag = train_config(zero_stage), shards_name(1)
    engine = build_engine(build_tiny_model("dense"), train)
    losses_of(engine, build_batch, train, range(3))
    engine.save_checkpoint(str(tmp_path / "cut"), tag=tag)
    needed = local_space.checkpoint_bytes(engine.module, zero_stage, 1, 1)
    written = sum(file.stat().st_size for file in (tmp_path / "cut").rglob("*") if file.is_file())
    assert 0.5 * written < needed
    expected = losses_of(engine, build_batch, train, range(3, 6))
    weights = consolidated_weights(engine)

    convert_to_universal(tmp_path / "cut" / tag, tmp_path / "whole" / tag)
    other = build_engine(build_tiny_model("dense"), train, universal=True)
    shapes = parameter_shapes(other.module)
    Resume(3, np.empty(0, np.int64), tmp_path / "whole", tag, shapes, is_universal=True).load_into(other)

    assert losses_of(other, build_batch, train, range(3, 6)) == pytest.approx(expected, rel=TOLERANCE)
    again = consolidated_weights(other)
    assert shapes == parameter_shapes(build_tiny_model("dense"))
    assert all(torch.equal(again[name], weights[name]) for name in shapes)


def test_a_checkpoint_of_another_model_is_named(build_tiny_model, tmp_path: Path) -> None:
    model = build_tiny_model("dense")
    shapes = parameter_shapes(model)
    assert Resume(3, root=tmp_path, parameters=shapes).misfit(model) is None
    assert Resume().misfit(model) is None

    shapes["lm_head.weight"][0] += 1
    line = str(Resume(3, root=tmp_path, parameters=shapes).misfit(model))
    assert "lm_head.weight is [" in line
    assert "model.base" in line
    routed = str(Resume(3, root=tmp_path, parameters=parameter_shapes(model)).misfit(build_tiny_model("dpn")))
    assert "absent there" in routed


def test_a_disk_too_small_for_a_checkpoint_is_named(disk: Path, build_tiny_model) -> None:
    model = build_tiny_model("dense")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert local_space.checkpoint_bytes(model, 2, world_size=4, workers_here=1) == count * (4 + 3)
    assert local_space.checkpoint_bytes(model, 3, world_size=4, workers_here=2) == count * (2 + 6)
    assert local_space.checkpoint_bytes(model, 0, world_size=4, workers_here=1) == count * 16
    assert local_space.space_problem(1) is None
    line = str(local_space.space_problem(2**60))
    assert f"1073741824.00 GiB in {disk}" in line
    assert "TMPDIR" in line


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process cannot grow beyond some kilobytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as rank 0 of two."""
    monkeypatch.setattr(checkpoints.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(checkpoints.dist, "get_world_size", lambda: 2)


def test_a_failed_write_is_one_line_and_leaves_nothing(disk: Path, small_files: None, first_of_two: None) -> None:
    def save(engine_folder: str, *, tag: str, **_: Any) -> None:
        Path(engine_folder).mkdir()
        torch.save(torch.zeros(10**6), f"{engine_folder}/x.pt")

    writer = CheckpointWriter(ORIGIN, OwnProcess("file:///runs/x", None), np.empty(0, np.int64), 0)
    with pytest.raises(DpnError, match=rf"cannot write the checkpoint of step 4 to {disk}: .*TMPDIR") as refusal:
        writer.save(SimpleNamespace(save_checkpoint=save), 4, {})
    assert "\n" not in str(refusal.value)
    assert list(disk.iterdir()) == []


def test_what_killed_workers_left_is_removed(disk: Path) -> None:
    mine = local_space.new_folder()
    gone = next(number for number in itertools.count(2**21, -1) if not psutil.pid_exists(number))
    (disk / f"{local_space.PREFIX}{gone}-x" / "engine").mkdir(parents=True)
    (disk / "other").mkdir()

    local_space.remove_leftovers()

    assert sorted(disk.iterdir()) == sorted([mine, disk / "other"])


def test_checkpoints_are_due_by_step_by_time_and_at_the_end(process_group, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 20)  # every look at the clock is twenty seconds later
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: float(next(clock)))
    train = TrainConfig(steps=15, checkpoint_every_steps=10, checkpoint_every_minutes=0.9, log_every_steps=2)
    log = SimpleNamespace(is_diverged=False, last={}, flush=lambda: None)
    saved: list[int] = []
    writer = SimpleNamespace(
        note=lambda keys: None, last_step=0, save=lambda engine, step, *_, **__: saved.append(step)
    )
    checkpointing = Checkpointing(writer, train, log)
    engine = SimpleNamespace(device=torch.device("cpu"))

    for step in range(1, 16):
        checkpointing.after_step(engine, StepResult(step, 1, torch.zeros(())))

    assert saved == [6, 10, 15]


def test_the_state_says_where_it_comes_from(tmp_path: Path, build_tiny_model, first_of_two: None) -> None:
    model = build_tiny_model("dense")
    engine = SimpleNamespace(save_checkpoint=lambda *_, **__: None, zero_optimization_stage=lambda: 2, module=model)
    origin = Origin("file:///runs/x", "f1", "abc-dirty")
    writer = CheckpointWriter(origin, OwnProcess(origin.run_uri, None), np.array([3, 4]), 0)
    writer.note([9, 7])

    writer._write(engine, tmp_path, 5)

    assert json.loads((tmp_path / "state.json").read_text()) == {
        "step": 5, "num_workers": 2, "zero_stage": 2, "fingerprint": "f1", "code_version": "abc-dirty",
    }  # fmt: skip
    assert json.loads((tmp_path / "parameters.json").read_text()) == parameter_shapes(model)
    assert np.load(tmp_path / "consumed-rank0-of-2.npy").tolist() == [3, 4, 7, 9]
