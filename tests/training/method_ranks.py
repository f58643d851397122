"""One of two ranks that train every method with weights of its own, one of them on texts alone.

`python -m tests.training.method_ranks RANK FOLDER`. A collective that the other rank does not join fails after
`TIMEOUT_S`, and the method that was trained then is the first without a file in the folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dpn_model.methods import registry
from dpn_platform.config.training import TrainConfig
from dpn_platform.training import engine as engines
from dpn_platform.training.loop import run_loop
from tests.model.methods.method_cases import EVERY
from tests.model.methods.subject import Subject, own_weights
from tests.model.methods.toys import TOYS
from tests.training.legs import Keep
from tests.training.tiny import tiny_batch, tiny_processor

WORLD_SIZE, STEPS, MICRO_BATCH, TIMEOUT_S = 2, 2, 2, 60
TRAIN = TrainConfig(
    steps=STEPS,
    global_batch_size=WORLD_SIZE * MICRO_BATCH,
    micro_batch_size=MICRO_BATCH,
    num_workers=WORLD_SIZE,
    zero_stage=2,
    optimizer="sgd",
    lr=0.05,
    activation_checkpointing=True,
)


def with_weights() -> Iterator[tuple[str, Subject]]:
    """Methods that bring weights, each as the suite of methods examines it; the toys are registered."""
    for called, name, case in EVERY:
        subject = Subject.made(name, case, tiny_processor())
        if any(weight.requires_grad for weight in own_weights(subject.model).values()):
            yield called, subject


def micro_batches(subject: Subject, rank: int) -> list[dict[str, Any]]:
    """Of one rank, a step each: rank 0 reads texts, rank 1 pictures."""
    starts = range(rank * MICRO_BATCH, STEPS * WORLD_SIZE * MICRO_BATCH, WORLD_SIZE * MICRO_BATCH)
    return [tiny_batch(subject.processor, range(start, start + MICRO_BATCH), text_only=rank == 0) for start in starts]


def main(rank: int, folder: Path) -> None:
    """Every method in turn, each into a file of its own."""
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    for spec in TOYS.values():
        registry.register(spec)
    store, timeout = f"file://{folder}/group", timedelta(seconds=TIMEOUT_S)
    dist.init_process_group("gloo", store, rank=rank, world_size=WORLD_SIZE, timeout=timeout)
    for called, subject in with_weights():
        keep, model = Keep(), subject.model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()
        engine = engines.build_engine(model, TRAIN)
        run_loop(engine, iter(micro_batches(subject, rank)), TRAIN, start_step=0, callbacks=[keep])
        weights = engines.consolidated_weights(engine)
        engine.destroy()
        torch.save({"losses": keep.losses, "weights": weights}, folder / f"{called}-rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
