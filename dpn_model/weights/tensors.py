"""Tensor files of a folder: safetensors or PyTorch's format, in shards or not. Nothing but tensors is unpickled."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpn_model.weights.files import SAFE_FILE, SAFE_INDEX, check_weight_file, weight_files

SAFE_SUFFIX = ".safetensors"
#: a shard is closed before it would grow beyond this
MAX_SHARD_BYTES = 5 * 10**9


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a from_pretrained folder; safetensors are preferred where both formats are there.

    Raises:
        FileNotFoundError, ValueError: see `files.weight_files` and `read_file`.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= _read(file)
    return tensors


def read_file(file: Path) -> dict[str, Tensor]:
    """Tensors of one file, by its ending. They stay on disk until they are used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no file of tensors, or a PyTorch file that holds anything but tensors by name.
    """
    check_weight_file(file)
    return _read(file)


def read_shapes(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder on torch's meta device: names and shapes, no values. Raises as `read_folder`."""
    shapes: dict[str, Tensor] = {}
    for file in weight_files(folder):
        if file.suffix != ".safetensors":
            shapes |= {name: tensor.to("meta") for name, tensor in _read(file).items()}  # left on disk, or soon freed
            continue
        with safe_open(file, "pt") as tensors:
            names = list(tensors.keys())
            shapes |= {name: torch.empty(tensors.get_slice(name).get_shape(), device="meta") for name in names}
    return shapes


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == SAFE_SUFFIX:
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors and is refused: {str(error).splitlines()[0]}") from error
    except (EOFError, RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} holds no weights that can be read: {reason}; copy it again") from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        # A training file (mmengine, Lightning), with the run's state beside the weights.
        tensors = tensors["state_dict"]
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
    if len(shards) > 1 and (folder / SAFE_FILE).exists():
        raise ValueError(f"{folder} holds {SAFE_FILE} of another model, which would be read instead; save elsewhere")
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
