"""Tensor files of a folder: safetensors or PyTorch's format, in shards or not. Nothing but tensors is unpickled."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SAFE_FILE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
TORCH_FILE, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
#: a shard is closed before it would grow beyond this
MAX_SHARD_BYTES = 5 * 10**9


def weight_files(folder: Path) -> list[Path]:
    """The files of a from_pretrained folder's tensors; safetensors are preferred where both formats are there.

    Raises:
        FileNotFoundError: no weights, or a shard that the index names is missing.
    """
    for single, index in ((SAFE_FILE, SAFE_INDEX), (TORCH_FILE, TORCH_INDEX)):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            shards = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
            # Shards lie beside their index: a name that leads elsewhere is not followed.
            return [folder / Path(shard).name for shard in shards]
    names = ", ".join((SAFE_FILE, SAFE_INDEX, TORCH_FILE, TORCH_INDEX))
    raise FileNotFoundError(f"{folder} holds no weights; looked for {names}")


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a from_pretrained folder. Raises as `weight_files` and `read_file`."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= read_file(file)
    return tensors


def read_file(file: Path) -> dict[str, Tensor]:
    """Tensors of one file, by its ending.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a PyTorch file that holds anything but tensors by name.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors and is refused: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{file} is not a dictionary of tensors")
    return tensors


def write_folder(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write safetensors: one file, or shards with an index where one would exceed `max_shard_bytes`."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and used + size > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        used += size
    if len(shards) == 1:
        save_file(shards[0], folder / SAFE_FILE, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / SAFE_INDEX).write_text(json.dumps(index, indent=2) + "\n")
