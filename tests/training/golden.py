"""Losses of fifty steps, kept in files: `python -m tests.training.golden` writes them anew.

To be done, and the difference explained in the commit, when the method or the recipe is meant to compute another thing.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dpn_model import Method, method_profile
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.engine import build_engine
from dpn_platform.training.loop import run_loop
from tests.training.tiny import tiny_batch, tiny_model, tiny_processor

STEPS, BATCH, NUM_LAYERS = 50, 3, 4
METHODS = {"dense": Method(name="dense"), "default": method_profile("default"), "paper": method_profile("paper")}

Curves = dict[str, list[float]]


class _Keep:
    """Callback that keeps what every step did."""

    def __init__(self) -> None:
        self.curves: Curves = {"loss_lm": [], "loss_routing": [], "visual_tokens_kept": []}

    def after_step(self, engine: Any, result: Any) -> None:
        records = [record for report in result.routing for record in report.records]
        self.curves["loss_lm"].append(float(result.loss_lm))
        self.curves["loss_routing"] += [float(term) for term in result.loss_terms.values()]
        self.curves["visual_tokens_kept"].append(sum(sum(record.tokens_out) for record in records))


def golden_file(name: str) -> Path:
    """Of a method."""
    return Path(__file__).parent / f"golden_{name}.json"


def compute_curves(name: str) -> Curves:
    """Train the tiny model, its tower frozen, in this process's group of one; a batch is two pictures and a text."""
    sizes = {"steps": STEPS, "global_batch_size": BATCH, "micro_batch_size": BATCH}
    train = TrainConfig(**sizes, zero_stage=0, lr=1e-3, vision_lr=0)
    processor, keep = tiny_processor(), _Keep()
    batches = (tiny_batch(processor, range(step * BATCH, (step + 1) * BATCH)) for step in range(STEPS))
    engine = build_engine(tiny_model(METHODS[name], num_layers=NUM_LAYERS), train)
    run_loop(engine, batches, train, start_step=0, callbacks=[keep])
    return keep.curves


def main() -> None:
    """Write the file of every method."""
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", f"file://{folder}/group", rank=0, world_size=1)
        for name in METHODS:
            curves = {key: [float(f"{value:.7g}") for value in values] for key, values in compute_curves(name).items()}
            golden_file(name).write_text(json.dumps(curves, indent=1) + "\n")
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
