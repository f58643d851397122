"""What DeepSpeed really keeps on every rank, in bytes per parameter: `python tests/benchmarks/zero_memory.py`.

Builds the training's own engine around a stack of matrices on two ranks (gloo, CPU) for every ZeRO stage and
precision, takes two steps of two micro-batches each, and counts the storages of all live tensors; three minutes on an
idle machine. `dpn_platform.planning.states` states the same as formulas, which tests/planning/test_planning_states.py
holds to the figures printed here.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

WORLD_SIZE = 2
DEPTH, WIDTH = 64, 256
RUNS = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]


def live_bytes(ignored: set[int]) -> int:
    """Bytes of the storages of all live tensors, views counted once."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    # A gradient that Python has not asked for is unknown to its collector.
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(size for address, size in sizes.items() if address not in ignored)


def measure(stage: int, precision: str) -> dict[str, float]:
    """Bytes per parameter of one rank: after the engine is built, before the step, and after it."""
    from dpn_platform.config.training import TrainConfig
    from dpn_platform.training.engine import build_engine

    model = torch.nn.Sequential(*[torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)])
    size = sum(parameter.numel() for parameter in model.parameters())
    train = TrainConfig(
        steps=10, global_batch_size=2 * 2 * WORLD_SIZE, micro_batch_size=2, num_workers=WORLD_SIZE,
        zero_stage=stage, precision=precision,
    )  # fmt: skip
    engine = build_engine(model, train)
    buffers = {buffer.untyped_storage().data_ptr() for buffer in communication_buffers()}
    rows = {"built": live_bytes(buffers) / size}
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    for micro_step in range(4):
        loss = engine(torch.ones(1, WIDTH, dtype=dtype)).float().mean()
        engine.backward(loss)
        del loss
        buffers |= {buffer.untyped_storage().data_ptr() for buffer in communication_buffers()}
        rows[f"after backward {micro_step + 1}"] = live_bytes(buffers) / size
        engine.step()
        rows[f"after step {micro_step + 1}"] = live_bytes(buffers) / size
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state")
        rows["this rank's checkpoint"] = sum(file.stat().st_size for file in Path(folder).rglob("*.*")) / size
    rows["buffer_elements"] = sum(buffer.numel() for buffer in communication_buffers())
    return rows


def communication_buffers() -> list[torch.Tensor]:
    """DeepSpeed's reduce buckets: of a fixed size, whatever the model (reduce_bucket_size, 5e8 elements)."""
    gc.collect()
    large = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and t.numel() >= 10**8]
    return list({tensor.untyped_storage().data_ptr(): tensor for tensor in large}.values())


def worker(rank: int, folder: str, stage: int, precision: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD_SIZE)
    try:
        rows = measure(stage, precision)
    except Exception as error:
        rows = {"error": f"{type(error).__name__}: {error}"}
    if rank == 0:
        Path(folder, "rows.json").write_text(json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    for stage, precision in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(worker, (folder, stage, precision), WORLD_SIZE)
            print(stage, precision, Path(folder, "rows.json").read_text(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
