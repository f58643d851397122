"""Checkpoints of a run: written by all ranks, uploaded beside the training, then published (see `place`).

A checkpoint folder holds

- engine/ranks-N/: DeepSpeed's shards of N ranks (weights, optimiser, schedule)
- consumed-rankR-of-N: the samples this attempt consumed, per rank; rank 0 adds those of earlier attempts (see
  `data.reading.sample_set`)
- state.json: step, number of ranks, ZeRO stage, fingerprint of the configuration, code version
- parameters.json: name and shape of every weight

N is in the names because an attempt with another number of ranks may write the same step again after it was killed half
way. A folder is published only after every rank has uploaded its part: a half-written one is never picked. Random
numbers need no state, see `loop.step_seed`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from dpn_platform.data.reading.order import IntArray
from dpn_platform.data.reading.sample_set import SampleSet
from dpn_platform.storage import join_uri, upload_folder
from dpn_platform.training.local_space import explained_writing, new_folder
from dpn_platform.training.place import Place

ENGINE = "engine"
STATE_FILE = "state.json"
PARAMETERS_FILE = "parameters.json"

Shapes = dict[str, list[int]]


def checkpoint_name(step: int) -> str:
    """Folder of a step's checkpoint; names sort like steps."""
    return f"step_{step:08d}"


def shards_name(num_workers: int) -> str:
    """DeepSpeed's tag: the folder of the shards of so many ranks."""
    return f"ranks-{num_workers}"


def parameter_shapes(model: Any) -> Shapes:
    """Name and shape of every weight, whole also where ZeRO-3 has cut it."""
    return {name: list(getattr(parameter, "ds_shape", parameter.shape)) for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says of where it comes from.

    Attributes:
        run_uri: the run's folder.
        fingerprint: of the run's configuration, see `run_folder`.
        code_version: as `config.provenance.code_version`.
    """

    run_uri: str
    fingerprint: str
    code_version: str = "unknown"


class CheckpointWriter:
    """Saves the engine and what the run has consumed; collective.

    Attributes:
        last_step: step of the latest checkpoint, uploaded or on its way.
    """

    def __init__(self, origin: Origin, place: Place, consumed: IntArray, start_step: int) -> None:
        """Args: place: publishes; consumed: sample keys of earlier attempts; start_step: of this one."""
        self.origin = origin
        self.place = place
        self.last_step = start_step
        self._earlier = consumed
        self._mine = SampleSet()

    def note(self, sample_keys: Sequence[int]) -> None:
        """Remember what this rank consumed since the start of this attempt."""
        self._mine.add(sample_keys)

    def save(
        self, engine: Any, step: int, metrics: dict[str, float], *, before_upload: Callable[[], None] = lambda: None
    ) -> None:
        """Write this rank's part to the disk and let it be uploaded and published while the training goes on.

        Waits for the upload of the checkpoint before: no more than one lies on the disk.

        Args:
            engine: DeepSpeed engine.
            step: the checkpoint's.
            metrics: kept with it.
            before_upload: called in the uploading thread; a checkpoint is published only when it has returned.

        Raises:
            DpnError: the disk is full or cannot be written to.
        """
        self.place.wait()
        folder = new_folder()
        with explained_writing(f"the checkpoint of step {step}", folder):
            self._write(engine, folder, step)
        name = checkpoint_name(step)

        def upload() -> None:
            """By our storage, which waits for a store that is away; may be called again after a failure."""
            before_upload()
            upload_folder(folder, join_uri(self.origin.run_uri, name))
            shutil.rmtree(folder, ignore_errors=True)

        self.place.publish(folder, name, {"step": step, **metrics}, upload)
        self.last_step = step

    def _write(self, engine: Any, folder: Path, step: int) -> None:
        rank, world_size = dist.get_rank(), dist.get_world_size()
        engine.save_checkpoint(str(folder / ENGINE), tag=shards_name(world_size), exclude_frozen_parameters=False)
        if rank == 0:
            self._mine.add(self._earlier)
        self._mine.save(folder, f"consumed-rank{rank}-of-{world_size}")
        if rank > 0:
            return
        state = {
            "step": step,
            "num_workers": world_size,
            "zero_stage": int(engine.zero_optimization_stage()),
            "fingerprint": self.origin.fingerprint,
            "code_version": self.origin.code_version,
        }
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
        (folder / PARAMETERS_FILE).write_text(json.dumps(parameter_shapes(engine.module)))
