"""Where an attempt starts: the run's latest published checkpoint, checked, fetched, and cut for the ranks there are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.data.reading.order import IntArray
from dpn_platform.data.reading.sample_set import SampleSet
from dpn_platform.storage import delete_folder, join_uri, list_folders, read_json
from dpn_platform.training.checkpoints import (
    ENGINE,
    PARAMETERS_FILE,
    STATE_FILE,
    Origin,
    Shapes,
    parameter_shapes,
    shards_name,
)
from dpn_platform.training.local_space import explained_writing, new_folder, remove_leftovers
from dpn_platform.training.place import Place
from dpn_platform.training.resharding import convert_to_universal, load_universal
from dpn_platform.training.run_folder import claimed_fingerprint


@dataclass(frozen=True)
class Resume:
    """Where an attempt starts.

    Attributes:
        step: it continues after this one.
        consumed: sample keys that are done.
        root: local folder of the engine's shards; None at a fresh start.
        tag: folder below it.
        parameters: names and shapes of the checkpoint's weights.
        is_universal: written by another number of ranks and converted, see `resharding`.
    """

    step: int = 0
    consumed: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    root: Path | None = None
    tag: str = ""
    parameters: Shapes = field(default_factory=dict)
    is_universal: bool = False

    def misfit(self, model: Any) -> str | None:
        """One line when the checkpoint is of another model, None when it fits or at a fresh start."""
        if self.root is None:
            return None
        here = parameter_shapes(model)
        for name in sorted(here.keys() | self.parameters.keys()):
            there, mine = self.parameters.get(name, "absent"), here.get(name, "absent")
            if there != mine:
                return (
                    f"the checkpoint of step {self.step} is of another model: {name} is {there} there and {mine} in "
                    "the model of this configuration; has the folder of model.base changed? Choose another run name, "
                    "or give back the base the run began with"
                )
        return None

    def load_into(self, engine: Any) -> None:
        """Give the engine its weights, optimiser and schedule back; nothing to do at a fresh start. Collective."""
        if self.root is None:
            return
        if self.is_universal:
            loaded = load_universal(engine, self.root, self.tag)
        else:
            loaded = engine.load_checkpoint(str(self.root), tag=self.tag)[0] is not None
        if not loaded:
            raise DpnError(f"the checkpoint of step {self.step} holds no shard for rank {dist.get_rank()}")
        dist.barrier()  # the folder may be removed by whoever is done first


@contextmanager
def latest_checkpoint(origin: Origin, place: Place) -> Iterator[Resume]:
    """The run's latest published checkpoint, as a local copy while inside. Collective.

    Folders of later steps, left half-written by an attempt that was killed, are removed from storage.

    Raises:
        DpnError: it was written under another configuration.
    """
    if place.local_rank == 0:
        remove_leftovers()
    name = place.latest()
    if name is None:
        yield Resume()
        return
    uri = join_uri(origin.run_uri, name)
    # Before the shards are fetched; and this waits for a store that is away, which Ray's own fetching does not.
    state = read_json(join_uri(uri, STATE_FILE))
    # The name's owner counts too: an earlier version's configuration lacks what has a default now, and is the same.
    if state["fingerprint"] not in (origin.fingerprint, claimed_fingerprint(origin.run_uri)):
        raise DpnError(f"{uri}: of configuration {state['fingerprint']}, this is {origin.fingerprint}")
    if dist.get_rank() == 0:
        for later in list_folders(origin.run_uri):
            if name < later.rpartition("/")[2] and later.rpartition("/")[2].startswith("step_"):
                delete_folder(later)
    with place.fetched(name) as folder:
        ranks = int(state["num_workers"])
        parameters = json.loads((folder / PARAMETERS_FILE).read_text())
        consumed = SampleSet.load(sorted(folder.glob(f"consumed-rank*-of-{ranks}.np*"))).keys()
        resume = Resume(int(state["step"]), consumed, folder / ENGINE, shards_name(ranks), parameters)
        if ranks == dist.get_world_size() or state["zero_stage"] == 0:
            yield resume
            return
        with _converted(folder / ENGINE, resume.tag, place) as root:
            yield Resume(resume.step, consumed, root, resume.tag, parameters, is_universal=True)


@contextmanager
def _converted(root: Path, tag: str, place: Place) -> Iterator[Path]:
    """The universal form of the shards, made by one rank of every node. Collective."""
    mine = None
    if place.local_rank == 0:
        mine = new_folder()
        with explained_writing("the checkpoint for another number of workers", mine):
            convert_to_universal(root / tag, mine / tag)
    made: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(made, (place.node_rank, mine))
    try:
        yield next(folder for node, folder in made if node == place.node_rank and folder is not None)
    finally:
        if mine is not None:
            shutil.rmtree(mine, ignore_errors=True)
