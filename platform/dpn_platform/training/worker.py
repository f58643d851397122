"""What runs in every worker: build the model, the engine and the stream, run the loop, export."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dpn_model.methods.registry import DENSE
from dpn_model.processing import Processor
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig, parse_values
from dpn_platform.data.reading.collate import SampleCollator
from dpn_platform.storage import upload_folder, write_json
from dpn_platform.training.base import build_model, reading_processor
from dpn_platform.training.batches import open_batches
from dpn_platform.training.callbacks import Checkpointing, EarlyStop
from dpn_platform.training.checkpoints import CheckpointWriter, Origin, checkpoint_name
from dpn_platform.training.engine import build_engine, consolidated_weights
from dpn_platform.training.guards import BudgetGuard, NanGuard
from dpn_platform.training.held_out import HeldOut, first_answers_at, keep_first_answers, read_held_out
from dpn_platform.training.lesson import learn_lesson
from dpn_platform.training.local_space import checkpoint_bytes, space_problem
from dpn_platform.training.loop import Callback, run_loop
from dpn_platform.training.loss_meter import LossMeter
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.metrics import MetricsLog
from dpn_platform.training.place import Place
from dpn_platform.training.resume import Resume, latest_checkpoint
from dpn_platform.training.router_monitor import RouterMonitor
from dpn_platform.training.routing_history import ROUTING, routing_history
from dpn_platform.training.run_folder import EXPORT, TrainingOutcome, run_fingerprint, write_outcome
from dpn_platform.training.throughput import Throughput, spent_device_hours
from dpn_platform.training.words import training_words
from dpn_platform.training.worker_settings import WorkerSettings


def work(given: WorkerSettings, place: Place) -> str | None:
    """Train, or continue. Rank 0 leaves the run's outcome in its folder.

    Args:
        given: by whoever started the run.
        place: where this worker runs.

    Returns:
        See `entry.train_worker`.
    """
    config = parse_values(given.config)
    if config.train.threads_per_worker:
        torch.set_num_threads(config.train.threads_per_worker)
    if config.train.use_gpu:
        torch.cuda.set_device(place.device())
    origin = Origin(given.run_uri, run_fingerprint(config), given.code_version)
    with latest_checkpoint(origin, place) as resume:
        is_complete = resume.step == config.train.steps
        reader = None if is_complete else open_batches(config, resume.consumed, start_step=resume.step)
        (model, processor), problem = _agreed_model(config, resume)
        if problem is not None:
            return problem
        engine = build_engine(model.train(), config.train, universal=resume.is_universal)
        resume.load_into(engine)
    stage = int(engine.zero_optimization_stage())
    needed = checkpoint_bytes(engine.module, stage, dist.get_world_size(), place.local_world_size)
    # Said before the first step: a run whose first checkpoint fails has worked for nothing.
    if (problem := _agreed(space_problem(needed))) is not None:
        return problem
    reading = reading_processor(processor, config.model)
    collator = SampleCollator(
        reading, router=model.needs_router_token, decode=config.data.decode, positives=config.data.positives
    )
    writer = CheckpointWriter(origin, place, resume.consumed, resume.step)
    log, checkpointing, callbacks = _callbacks(given, config, writer, collator)
    batches = iter(()) if reader is None else reader.collated(collator)
    steps, stopped = run_loop(engine, batches, config.train, start_step=resume.step, callbacks=callbacks)
    if log.is_diverged:
        return stopped
    checkpointing.finish(engine, steps)
    figures = learn_lesson(engine, config, collator) if stopped is None else {}
    _export(engine, processor, f"{given.run_uri}/{EXPORT}")
    if dist.get_rank() == 0:
        if (history := routing_history(log.lines)) is not None:
            write_json(f"{given.run_uri}/{ROUTING}", history)
        outcome = TrainingOutcome(
            run_name=given.run_name,
            run_uri=given.run_uri,
            checkpoint_uri=f"{given.run_uri}/{checkpoint_name(steps)}",
            export_uri=f"{given.run_uri}/{EXPORT}",
            status="finished" if stopped is None else "stopped",
            steps=steps,
            metrics=log.last | figures,
            resumed_from=resume.step,
            stop_reason=stopped,
        )
        write_outcome(outcome)
    return None


def _agreed_model(config: ExperimentConfig, resume: Resume) -> tuple[tuple[Any, Any], str | None]:
    """The model and its processor, or the first problem any rank had. Collective: no rank goes on alone."""
    parts: tuple[Any, Any] = (None, None)
    problem = None
    try:
        parts = build_model(config, training_words(config))
        problem = resume.misfit(parts[0])
    except DpnError as error:
        problem = str(error)
    return parts, _agreed(problem)


def _agreed(problem: str | None) -> str | None:
    """The first problem any rank has. Collective."""
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, problem)
    return next((text for text in problems if text is not None), None)


def _callbacks(
    given: WorkerSettings, config: ExperimentConfig, writer: CheckpointWriter, collator: SampleCollator
) -> tuple[MetricsLog, Checkpointing, list[Callback]]:
    """In this order: what stops the run first, then the checkpoint, so that a stopped run has its last step saved."""
    train = config.train
    speed = Throughput(train, spent_device_hours(read_metrics(given.run_uri)))
    rule = config.sweep.early_stopping if config.sweep else None
    rungs = rule.steps_of_rungs(train) if rule else ()
    is_reference = bool(rungs) and config.method.name == DENSE
    held_out = HeldOut(
        train.steps,
        train.eval_every_steps,
        partial(read_held_out, config, collator),
        steps=rungs,
        convention="eq8" if config.sweep and config.sweep.flops_convention == "eq8" else "swiglu",
        teacher=partial(first_answers_at, given.reference_uri, config) if given.reference_uri else lambda: None,
        keep=partial(keep_first_answers, given.run_uri) if is_reference else None,
    )
    log = MetricsLog(given.run_uri, train, writer.last_step, (LossMeter(), speed, RouterMonitor(), held_out))
    checkpointing = Checkpointing(writer, train, log)
    early = [] if given.judge is None else [EarlyStop(given.judge, log)]
    guards: list[Callback] = [NanGuard(log), BudgetGuard(train.guards, log), *early]
    return log, checkpointing, [log, *guards, checkpointing, *given.callbacks]


def _export(engine: Any, processor: Processor, uri: str) -> None:
    """Rank 0 writes a from_pretrained folder (fp32 safetensors, processor). Collective."""
    state = consolidated_weights(engine)
    if state is None:
        return
    with tempfile.TemporaryDirectory(prefix="dpn-export-") as folder:
        engine.module.save_pretrained(folder, state_dict=state)
        processor.save_pretrained(folder)
        upload_folder(Path(folder), uri)
