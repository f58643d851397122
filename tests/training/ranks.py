"""One of two ranks that train every case of `rank_cases`: `python -m tests.training.ranks RANK FOLDER`.

A collective that the other rank does not join fails after `TIMEOUT_S`.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dpn_platform.training import engine as engines
from dpn_platform.training.held_out import HeldOut
from dpn_platform.training.loop import StepResult, run_loop
from tests.training.legs import run_leg
from tests.training.rank_cases import APART, CASES, WORLD_SIZE, Case

TIMEOUT_S = 240


class Watch:
    """Callback that keeps every step's loss and hinge, of both ranks."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.hinges: list[float] = []

    def after_step(self, engine: Any, result: Any) -> None:
        hinge = result.loss_terms.get("routing", torch.zeros(()))
        both = torch.stack([result.loss_lm, hinge])
        dist.all_reduce(both)
        self.losses.append(float(both[0]))
        self.hinges.append(float(both[1]))


def run_case(case: Case, rank: int, *, evaluates: bool) -> dict[str, Any]:
    """Train; losses and hinges of every step, the held-out loss and rank 0's copy of the weights after it."""
    train, model, watch = case.config, case.build(), Watch()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()
    model.set_route(case.routes[rank])
    engine = engines.build_engine(model, train)
    run_loop(engine, iter(case.micro_batches(rank)), train, start_step=0, callbacks=[watch])
    held_out = held_out_loss(case, rank, engine) if evaluates else None
    weights = engines.consolidated_weights(engine)
    engine.destroy()
    return {"losses": watch.losses, "hinges": watch.hinges, "weights": weights, "held_out": held_out}


def held_out_loss(case: Case, rank: int, engine: Any) -> float:
    """Of the trained model, on what the ranks trained on."""
    meter = HeldOut(case.config.steps, 1, lambda: case.micro_batches(rank))
    sums = meter.local(engine, [StepResult(1, 0, torch.zeros(()))])
    both = torch.tensor([float(sums["held_out_loss"]), float(sums["held_out_tokens"])], dtype=torch.float64)
    dist.all_reduce(both)
    return float(both[0] / both[1])


def main(rank: int, folder: Path) -> None:
    """Every case in turn, each into a file of its own."""
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    whole = engines.deepspeed_config

    def everything_is_sharded(train: Any) -> dict[str, Any]:
        config = whole(train)
        # Below its threshold of 100,000 elements, ZeRO-3 shards nothing: at this size it would be ZeRO-2.
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return config

    engines.deepspeed_config = everything_is_sharded
    store = f"file://{folder}/group"
    dist.init_process_group("gloo", store, rank=rank, world_size=WORLD_SIZE, timeout=timedelta(seconds=TIMEOUT_S))
    chosen = sys.argv[3:] or list(CASES)
    for name in chosen:
        torch.save(run_case(CASES[name], rank, evaluates=name in APART), folder / f"{name}-rank{rank}.pt")
    if (folder / "whole-0").exists():
        torch.save(run_leg(1, folder), folder / f"leg-rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
