"""What runs in every Ray Train worker: build the model, the engine and the stream, run the loop, export."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist

import dpn_model
from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from dpn_platform.config.schema import ExperimentConfig, MethodConfig
from dpn_platform.data.collate import SampleCollator
from dpn_platform.storage import download_folder, upload_folder
from dpn_platform.training.base import build_tiny
from dpn_platform.training.callbacks import Checkpointing, EarlyStop, MetricsLog
from dpn_platform.training.checkpoints import CheckpointWriter, consumed_samples, restore
from dpn_platform.training.loop import Batch, Callback, run_loop, step_seed


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's function; see `run.run_training` for the settings.

    Returns:
        `steps` done, `status` ("finished" or "stopped") and `loss_lm`, the last logged one.
    """
    from dpn_platform.training.engine import build_engine  # DeepSpeed takes seconds to import: only here

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    config = ExperimentConfig.model_validate(settings["config"])
    train, run_uri, world_size = config.train, settings["run_uri"], dist.get_world_size()
    if train.threads_per_worker:
        torch.set_num_threads(train.threads_per_worker)
    torch.manual_seed(step_seed(train.seed, 0, 0))  # fresh routers are drawn alike on every rank
    model, processor = load_base(config.model.base)
    model.configure_method(method_of(config.method, train.seed))
    model.config.router_token_id = processor.tokenizer.convert_tokens_to_ids("<ROUTER>")
    engine = build_engine(model.train(), train, world_size)
    start_step = restore(engine, world_size)

    log = MetricsLog(run_uri, train, start_step)
    writer = CheckpointWriter(consumed_samples(run_uri))
    callbacks: list[Callback] = [log]
    early = _early_stop(log, settings, config)
    callbacks += [early] if early else []
    callbacks.append(Checkpointing(writer, train, log))
    batches = _batches(config, SampleCollator(processor, router=model.needs_router_token))
    steps = run_loop(engine, batches, train, start_step=start_step, callbacks=callbacks)
    if writer.last_step < steps and start_step < steps:
        writer.save(engine, steps, log.last_loss)
    export(engine, processor, f"{run_uri}/export", train.zero_stage)
    is_stopped = early is not None and early.is_stopped
    return {"steps": steps, "status": "stopped" if is_stopped else "finished", "loss_lm": log.last_loss}


def load_base(base: str) -> tuple[DpnForConditionalGeneration, DpnProcessor]:
    """Model and processor of a from_pretrained folder (a path, or a URI that is fetched), or fresh ones for "tiny"."""
    if base == "tiny":
        return build_tiny()
    if "://" not in base:
        # Relative to the working folder, else to where dpn_model lives: the shipped base travels with the package.
        local = Path(base) if Path(base).exists() else Path(dpn_model.__file__).parents[1] / base
        return DpnForConditionalGeneration.from_pretrained(local), DpnProcessor.from_pretrained(local)
    with tempfile.TemporaryDirectory(prefix="dpn-base-") as folder:
        download_folder(base, folder)
        return DpnForConditionalGeneration.from_pretrained(folder), DpnProcessor.from_pretrained(folder)


def method_of(method: MethodConfig, seed: int) -> Method:
    """The model's `Method` from the configuration's section."""
    return Method.from_dict({**method.model_dump(mode="json"), "seed": seed})


def _early_stop(log: MetricsLog, settings: dict[str, Any], config: ExperimentConfig) -> EarlyStop | None:
    reference = settings.get("reference_loss")
    if reference is None or config.sweep is None or not config.sweep.early_stopping.enabled:
        return None
    rule = config.sweep.early_stopping
    return EarlyStop(log, reference_loss=reference, loss_ratio=rule.loss_ratio, grace_steps=rule.grace_steps)


def _batches(config: ExperimentConfig, collator: SampleCollator) -> Iterator[Batch]:
    """Collated micro-batches of this rank; the stream ends exactly at the run's last step."""
    shard = ray.train.get_dataset_shard("train")
    tables = shard.iter_batches(
        batch_size=config.train.micro_batch_size, batch_format="pyarrow", prefetch_batches=2, drop_last=True
    )
    return (collator(table) for table in tables)


def export(engine: Any, processor: DpnProcessor, uri: str, zero_stage: int) -> None:
    """Rank 0 writes a from_pretrained folder (fp32 safetensors). Collective under ZeRO-3."""
    gathered: Any = contextlib.nullcontext()
    if zero_stage == 3:
        import deepspeed

        gathered = deepspeed.zero.GatheredParameters(list(engine.module.parameters()), modifier_rank=None)
    with gathered:
        if dist.get_rank() == 0:
            state = {name: tensor.detach().float() for name, tensor in engine.module.state_dict().items()}
            with tempfile.TemporaryDirectory(prefix="dpn-export-") as folder:
                engine.module.save_pretrained(folder, state_dict=state)
                processor.save_pretrained(folder)
                upload_folder(Path(folder), uri)
    dist.barrier()
