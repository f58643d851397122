"""What a method learns behind the training (`contract.Lesson`): every rank looks at its share of the samples.

The samples are training rows, evenly spaced over the split. Ranks hand what they saw to each other and learn the same
from all of it, so their weights stay equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.training.held_out import Collate, batches_of
from dpn_platform.training.loop import step_seed, to_device
from dpn_platform.training.metric_lines import Line


def learn_lesson(engine: Any, config: ExperimentConfig, collate: Collate) -> Line:
    """Figures of what was learned; none where the method learns nothing here. Collective.

    Raises:
        DpnError: the samples do not do.
    """
    model = engine.module
    lesson = model.parts.lesson
    if lesson is None:
        return {}
    rank, world_size = dist.get_rank(), dist.get_world_size()
    split = config.data.train_split
    rows = load_manifest(config.data.uri).split(split).rows
    places = np.unique(np.linspace(0, rows - 1, min(rows, lesson.num_samples)).round().astype(np.int64))
    dtype = model.lm_head.weight.dtype
    batches = batches_of(config, split, places[rank::world_size], collate)
    model.eval()
    try:
        seen: list[Any] = [lesson.look(model, (to_device(batch, engine.device, dtype) for batch in batches))]
        if world_size > 1:
            mine, seen = seen[0], [None] * world_size
            dist.all_gather_object(seen, mine)
        torch.manual_seed(step_seed(config.train.seed, config.train.steps + 1, 0))
        return dict(lesson.learn(model, seen))
    except ValueError as error:
        raise DpnError(f"data.uri = {config.data.uri}, split {split}: {error}") from error
    finally:
        model.train()
