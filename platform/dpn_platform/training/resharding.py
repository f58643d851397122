"""A checkpoint for another number of workers: DeepSpeed's shards, cut for so many ranks, as its universal checkpoint.

ZeRO-1, 2 and 3 cut weights, moments and masters by rank; a universal checkpoint holds them by parameter, and every
rank of the new group takes its share. Stage 0 has nothing to cut in fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path
from typing import Any

import torch

from dpn_platform.training.engine import import_deepspeed

#: at a time; the shards of a large model fill the memory of a node quickly
CONVERTERS = 1


def convert_to_universal(shards: Path, target: Path) -> None:
    """Writes the universal form of one checkpoint: as many bytes again, one process, once per node.

    Args:
        shards: folder of one tag, as `engine.save_checkpoint` left it.
        target: folder of the same tag below another root; is made.
    """
    import_deepspeed()
    from deepspeed.checkpoint import ds_to_universal

    target.mkdir(parents=True)
    settings = argparse.Namespace(
        input_folder=str(shards),
        output_folder=str(target),
        num_extract_workers=CONVERTERS,
        num_merge_workers=CONVERTERS,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(settings)


def load_universal(engine: Any, root: Path, tag: str) -> bool:
    """Gives an engine built with `universal` its weights, optimiser and schedule from a universal checkpoint.

    Returns:
        Whether the checkpoint was found.
    """
    # Written over by the load, under ZeRO-3 with the values of the first group for all; they are the configuration's.
    groups = [{key: value for key, value in group.items() if key != "params"} for group in _groups(engine)]
    if engine.zero_optimization_stage() < 3:
        _load_frozen(engine, root / tag)
    loaded, _ = engine.load_checkpoint(str(root), tag=tag)
    for group, values, lr in zip(_groups(engine), groups, engine.lr_scheduler.get_last_lr(), strict=True):
        group.update(values, lr=lr)
    _part_step_counters(engine)
    return loaded is not None


def _part_step_counters(engine: Any) -> None:
    """Under ZeRO-3 all groups get one and the same counter, which every group's step would then advance."""
    states = engine.optimizer.optimizer.state if engine.zero_optimization_stage() == 3 else {}
    for state in states.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _groups(engine: Any) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = engine.optimizer.param_groups
    return groups


def _load_frozen(engine: Any, folder: Path) -> None:
    """Weights that no optimiser holds: the universal load leaves them as the base has them."""
    state = torch.load(folder / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)["module"]
    frozen = {name for name, parameter in engine.module.named_parameters() if not parameter.requires_grad}
    engine.module.load_state_dict({name: state[name] for name in frozen}, strict=False)
