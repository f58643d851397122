"""What a run reads, in which order: asked by the driver, which refuses bad settings, and by the workers."""

from __future__ import annotations

from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.row_index import read_row_index
from dpn_platform.data.reading.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.order import IntArray


def plan_run(config: ExperimentConfig, manifest: Manifest, consumed: IntArray | None = None) -> BatchPlan:
    """The plan of a run, or of what is left of it. Reads the small columns of the shards where the settings need them.

    Raises:
        DpnError: as `plan_batches`.
    """
    data, settings = config.data, BatchSettings.of(config)
    return plan_batches(
        manifest.split(data.train_split),
        settings,
        seed=config.train.seed,
        index=read_row_index(manifest, data.train_split) if settings.needs_index else None,
        steps=config.train.steps,
        consumed=consumed,
    )
