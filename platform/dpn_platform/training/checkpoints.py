"""Checkpoints of a run: written by all ranks, published by Ray Train, found again by run name.

A checkpoint folder holds `engine/` (DeepSpeed's shards: weights, optimiser, schedule), `state.json` (step, workers,
fingerprint) and `consumed-rank*` (the samples this attempt consumed, per rank; rank 0 adds those of earlier attempts;
see `data.sample_set`). Ray Train publishes a folder only after every rank has uploaded its part, and keeps the list of
published ones in a snapshot file: a half-written folder is never picked. Random numbers need no state, see
`loop.step_seed`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.data.order import IntArray
from dpn_platform.data.sample_set import SampleSet

TAG = "state"
STATE_FILE = "state.json"


def checkpoint_name(step: int) -> str:
    """Folder of a step's checkpoint; names sort like steps."""
    return f"step_{step:08d}"


class CheckpointWriter:
    """Saves the engine and what the run has consumed; collective.

    Args:
        fingerprint: of the run's configuration, see `run_folder`.
        consumed: sample keys of earlier attempts.
    """

    def __init__(self, fingerprint: str, consumed: IntArray, start_step: int) -> None:
        self.fingerprint = fingerprint
        self.last_step = start_step
        self._earlier = consumed
        self._mine = SampleSet()

    def note(self, sample_keys: Sequence[int]) -> None:
        """Remember what this rank consumed since the start of this attempt."""
        self._mine.add(sample_keys)

    def save(self, engine: Any, step: int, metrics: dict[str, float]) -> None:
        """Write this rank's part and publish the checkpoint together with the other ranks'."""
        rank = dist.get_rank()
        folder = Path(tempfile.mkdtemp(prefix="dpn-checkpoint-"))
        try:
            engine.save_checkpoint(str(folder / "engine"), tag=TAG, exclude_frozen_parameters=False)
            if rank == 0:
                self._mine.add(self._earlier)
            self._mine.save(folder, f"consumed-rank{rank}")
            if rank == 0:
                state = {"step": step, "num_workers": dist.get_world_size(), "fingerprint": self.fingerprint}
                (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
            ray.train.report(
                {"step": step, **metrics},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=checkpoint_name(step),
            )
            self.last_step = step
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Resume:
    """Where an attempt starts: the step it continues after, the samples that are done, the engine's shards."""

    step: int = 0
    consumed: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    folder: Path | None = None

    def load_into(self, engine: Any) -> None:
        """Give the engine its weights, optimiser and schedule back; nothing to do at a fresh start."""
        if self.folder is None:
            return
        loaded, _ = engine.load_checkpoint(str(self.folder / "engine"), tag=TAG)
        if loaded is None:
            raise DpnError(f"the checkpoint of step {self.step} holds no shard for rank {dist.get_rank()}")


@contextmanager
def latest_checkpoint(fingerprint: str) -> Iterator[Resume]:
    """The run's latest published checkpoint, as a local copy while inside.

    Raises:
        DpnError: it was written under another configuration.
    """
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield Resume()
        return
    with checkpoint.as_directory() as local:
        folder = Path(local)
        state = json.loads((folder / STATE_FILE).read_text())
        if state["fingerprint"] != fingerprint:
            raise DpnError(f"{checkpoint.path}: of configuration {state['fingerprint']}, this is {fingerprint}")
        consumed = SampleSet.load(sorted(folder.glob("consumed-rank*"))).keys()
        yield Resume(int(state["step"]), consumed, folder)
