"""Checkpoints of a run: written by all ranks, published by Ray Train, found again by run name.

A checkpoint folder holds `ds/` (DeepSpeed's shards: weights, optimiser, schedule), `state.json` (step, world size) and
`consumed-rank*.npy` (sample keys this attempt consumed, per rank; rank 0 adds those of earlier attempts). Ray Train
publishes a folder only after every rank has uploaded its part, and keeps the list of published ones in a snapshot
file: a half-written folder is never picked.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.data.order import IntArray
from dpn_platform.storage import exists, list_files, open_uri, read_json

TAG = "state"
SNAPSHOT = "checkpoint_manager_snapshot.json"


class CheckpointWriter:
    """Saves the engine and what the run has consumed; collective.

    Args:
        consumed: sample keys of earlier attempts.
    """

    def __init__(self, consumed: IntArray) -> None:
        self._earlier = consumed
        self._mine: list[int] = []
        self.last_step = 0

    def note(self, sample_keys: Sequence[int]) -> None:
        """Remember what this rank consumed since the start of this attempt."""
        self._mine.extend(sample_keys)

    def save(self, engine: Any, step: int, loss_lm: float) -> None:
        """Write this rank's part and publish the checkpoint together with the other ranks'."""
        rank = dist.get_rank()
        folder = Path(tempfile.mkdtemp(prefix="dpn-checkpoint-"))
        try:
            engine.save_checkpoint(str(folder / "ds"), tag=TAG)
            keys = np.asarray(self._mine, dtype=np.int64)
            np.save(folder / f"consumed-rank{rank}.npy", np.concatenate([self._earlier, keys]) if rank == 0 else keys)
            if rank == 0:
                state = {"step": step, "world_size": dist.get_world_size(), "loss_lm": loss_lm}
                (folder / "state.json").write_text(json.dumps(state))
            ray.train.report(
                {"step": step, "loss_lm": loss_lm},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=f"step_{step:08d}",
            )
            self.last_step = step
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def restore(engine: Any, world_size: int) -> int:
    """Load the run's latest checkpoint into the engine, if there is one; returns the steps it had done.

    Raises:
        DpnError: it was written by another number of workers (DeepSpeed's shards do not reload at another size).
    """
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        state = json.loads((Path(folder) / "state.json").read_text())
        if state["world_size"] != world_size:
            raise DpnError(
                f"the run's checkpoint was written by {state['world_size']} workers, train.num_workers is {world_size}; "
                "resume with the same number"
            )
        engine.load_checkpoint(str(Path(folder) / "ds"), tag=TAG)
    return int(state["step"])


def latest_checkpoint(run_uri: str) -> str | None:
    """URI of the latest published checkpoint of a run, None before the first."""
    snapshot = f"{run_uri}/{SNAPSHOT}"
    if not exists(snapshot):
        return None
    latest = read_json(snapshot).get("latest_checkpoint_result")
    return f"{run_uri}/{latest['checkpoint_dir_name']}" if latest else None


def consumed_samples(run_uri: str) -> IntArray:
    """int64[n], sample keys consumed up to the run's latest checkpoint, by all ranks of all attempts."""
    checkpoint = latest_checkpoint(run_uri)
    if checkpoint is None:
        return np.empty(0, np.int64)
    parts = []
    for uri in list_files(checkpoint, suffix=".npy"):
        location = open_uri(uri)
        with location.filesystem.open_input_file(location.path) as file:
            parts.append(np.load(file))
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
