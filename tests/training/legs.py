"""A run in legs on different numbers of ranks, each of which begins with the checkpoint of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist

from dpn_platform.training import engine as engines
from dpn_platform.training.checkpoints import shards_name
from dpn_platform.training.loop import run_loop
from dpn_platform.training.resharding import convert_to_universal, load_universal
from tests.training.rank_cases import ADAMW, GLOBAL_BATCH, Case
from tests.training.tiny import tiny_batch, tiny_processor

LEGS = (range(2), range(2, 4), range(4, 6))
CASE = Case({**ADAMW, "zero_stage": 3, "micro_batch_size": GLOBAL_BATCH // 2}, steps=LEGS[-1].stop)


class Keep:
    """Callback that keeps every step's loss, of all ranks."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_step(self, engine: Any, result: Any) -> None:
        loss = result.loss_lm.clone()
        dist.all_reduce(loss)
        self.losses.append(float(loss))


def run_leg(number: int, folder: Path) -> list[float]:
    """Losses of a leg; its checkpoint is left for the next. Collective.

    Args:
        number: of the leg, which the group that is there runs.
        folder: of all legs' checkpoints.
    """
    rank, ranks, steps = dist.get_rank(), dist.get_world_size(), LEGS[number]
    micro = GLOBAL_BATCH // ranks
    train = CASE.config.model_copy(update={"num_workers": ranks, "micro_batch_size": micro, "steps": steps.stop})
    model, keep = CASE.build(), Keep()
    # The schedule is that of the whole run.
    engine = engines.build_engine(model, train.model_copy(update={"steps": CASE.steps}), universal=number > 0)
    if number:
        assert load_universal(engine, folder / f"whole-{number - 1}", _tag(number - 1, folder))
    samples = (range(step * GLOBAL_BATCH + rank * micro, step * GLOBAL_BATCH + (rank + 1) * micro) for step in steps)
    batches = (tiny_batch(tiny_processor(), part) for part in samples)
    run_loop(engine, batches, train, start_step=steps.start, callbacks=[keep])
    engine.save_checkpoint(str(folder / f"cut-{number}"), tag=shards_name(ranks))
    engine.destroy()
    return keep.losses


def make_whole(number: int, folder: Path) -> None:
    """The universal form of a leg's checkpoint."""
    tag = _tag(number, folder)
    convert_to_universal(folder / f"cut-{number}" / tag, folder / f"whole-{number}" / tag)


def _tag(number: int, folder: Path) -> str:
    return next(path.name for path in (folder / f"cut-{number}").iterdir() if path.is_dir())
