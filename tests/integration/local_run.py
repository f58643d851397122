"""A run in one process: our stream, our loop and DeepSpeed, without Ray Train. What a disturbed run is held against."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch.distributed as dist

from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.data.reading.collate import SampleCollator
from dpn_platform.data.reading.feed import local_batches
from dpn_platform.training.base import build_model, reading_processor
from dpn_platform.training.batches import BatchReader
from dpn_platform.training.engine import build_engine
from dpn_platform.training.loop import run_loop
from dpn_platform.training.run_plan import plan_run


class _Keep:
    """Callback that keeps what every step said and read."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.keys: list[int] = []

    def after_step(self, engine: Any, result: Any) -> str | None:
        self.losses.append(float(result.loss_lm))
        self.keys += result.sample_keys
        return None


@contextmanager
def group_of_one() -> Iterator[None]:
    """gloo with this process alone, as Ray Train's worker would have it. Once a process: DeepSpeed keeps the first."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def run_here(config: ExperimentConfig) -> tuple[list[float], list[int]]:
    """Losses of every step, and the sample keys consumed, sorted. Inside `group_of_one`, Ray initialised."""
    manifest = load_manifest(config.data.uri)
    plan = plan_run(config, manifest)
    model, processor = build_model(config)
    collator = SampleCollator(reading_processor(processor, config.model), router=model.needs_router_token)
    batches = BatchReader(local_batches(manifest, plan, num_readers=1), config.data).collated(collator)
    keep = _Keep()
    engine = build_engine(model.train(), config.train)
    run_loop(engine, batches, config.train, start_step=0, callbacks=[keep])
    return keep.losses, sorted(keep.keys)
