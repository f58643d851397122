"""The functions that start a worker. Imports nothing heavy.

Ray Train's controller unpickles them too, in a process of its own that lives as long as the run: with the worker's
imports (our model, transformers, DeepSpeed) at the top of this file it would start seconds later and keep their memory.
"""

from __future__ import annotations

from dpn_platform.training.worker_settings import WorkerSettings


def train_worker(settings: dict[str, WorkerSettings]) -> str | None:
    """Ray Train's function, called in every worker.

    Returns:
        None, or what is wrong in one line where trying again would not help (all ranks return it then).
    """
    from dpn_platform.training.place import WorkerGroup
    from dpn_platform.training.worker import work

    given = settings["settings"]
    return work(given, WorkerGroup(given.run_uri))


def train_here(settings: WorkerSettings, *, use_gpu: bool, num_to_keep: int | None) -> str | None:
    """The only worker of a run, in this process; as `train_worker` otherwise."""
    import gc
    import os

    import torch
    import torch.distributed as dist

    from dpn_platform.training.place import OwnProcess
    from dpn_platform.training.worker import work

    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed asks for it
    if not dist.is_initialized():  # one group for all runs of this process: DeepSpeed keeps the first
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group("nccl" if use_gpu else "gloo", store=store, rank=0, world_size=1)
    try:
        return work(settings, OwnProcess(settings.run_uri, num_to_keep))
    finally:
        gc.collect()  # an engine and its model refer to each other
        if use_gpu:
            torch.cuda.empty_cache()
