"""The files of a folder's weights, looked at before they are read: a download may have left something else there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

SAFE_FILE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
TORCH_FILE, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

_POINTER = b"version https://git-lfs"
#: a pointer is a few lines; larger files are not opened to look for one
_POINTER_BYTES = 1024
#: what a PyTorch file begins with: a zip archive, or (before torch 1.6) a pickle of protocol 2
_ZIP, _PICKLE = b"PK", b"\x80\x02"
#: parts of a model that people take for one
_PARTS = {
    "adapter_config.json": "adapters; merge them into their base and give that folder",
    "adapter_model.safetensors": "adapters; merge them into their base and give that folder",
    "adapter_model.bin": "adapters; merge them into their base and give that folder",
    "mm_projector.bin": "a projector; dpn_model.assemble makes a model of LLM, tower and projector",
}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's tensors, safetensors where both formats are there; each has been looked at.

    Raises:
        FileNotFoundError: no weights, or a shard that the index names is missing.
        ValueError: a file that holds no weights: a Git LFS pointer, a web page, an empty or cut file; or adapters.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds {_PARTS['adapter_config.json']} (found adapter_config.json)")
    for single, index in ((SAFE_FILE, SAFE_INDEX), (TORCH_FILE, TORCH_INDEX)):
        if (folder / single).is_file():
            files = [folder / single]
        elif (folder / index).is_file():
            files = _shards(folder / index)
        else:
            continue
        for file in files:
            check_weight_file(file)
        return files
    found = next((f"; it holds {what} ({name})" for name, what in _PARTS.items() if (folder / name).is_file()), "")
    names = ", ".join((SAFE_FILE, SAFE_INDEX, TORCH_FILE, TORCH_INDEX))
    raise FileNotFoundError(f"{folder} holds no weights{found}; looked for {names}")


def check_no_pointers(folder: Path) -> None:
    """Refuse a folder of which Git LFS has left pointers: its tokenizer would be wrong as well as its weights.

    Raises:
        ValueError: the file's name, and how to get it.
    """
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size <= _POINTER_BYTES:
            _refuse_pointer(file, file.read_bytes())


def check_weight_file(file: Path) -> None:
    """Refuse what cannot be a file of tensors, from its first bytes and its length.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: what it is instead.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {file.parent} holds an incomplete copy of the model")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(_POINTER_BYTES)
    if not start:
        raise ValueError(f"{file} holds no weights: it is empty; copy it again")
    _refuse_pointer(file, start)
    if start.lstrip()[:1] == b"<":
        raise ValueError(f"{file} holds no weights: it is a web page (HTML); download the file itself")
    if file.suffix == ".safetensors":
        _check_safetensors(file, size)
    elif start[:2] == _ZIP and not zipfile.is_zipfile(file):
        raise ValueError(f"{file} holds no weights that can be read: it is cut after {size} bytes; copy it again")
    elif start[:2] not in (_ZIP, _PICKLE):
        raise ValueError(f"{file} holds no weights: it is not a PyTorch file (it begins with {start[:12]!r})")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the file holds anything else.
    """
    content = file.read_bytes()
    _refuse_pointer(file, content)
    try:
        data = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds a {type(data).__name__}; allowed: a JSON object")
    return data


def _refuse_pointer(file: Path, start: bytes) -> None:
    if start.startswith(_POINTER):
        raise ValueError(
            f"{file} is only a Git LFS pointer: no weights or other content came with it; run `git lfs pull` in "
            f"{file.parent}"
        )


def _shards(index: Path) -> list[Path]:
    """Files that an index names. They lie beside it: a name that leads elsewhere is not followed."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map; allowed: an object of tensor names and file names")
    names = sorted(set(map(str, weight_map.values())))
    astray = next((name for name in names if Path(name).name != name), None)
    if astray is not None:
        raise ValueError(f"{index} names {astray!r}; allowed: files in {index.parent}")
    return [index.parent / name for name in names]


def _check_safetensors(file: Path, size: int) -> None:
    """The header says how many bytes follow it."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length) if length <= size else b""
    cut = f"{file} holds no weights that can be read: it is cut after {size} bytes"
    if 8 + length > size:
        raise ValueError(f"{cut}, or is not a safetensors file; copy it again")
    try:
        entries = json.loads(header)
        end = max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, AttributeError, LookupError):
        raise ValueError(f"{file} holds no weights: it is not a safetensors file; copy it again") from None
    if 8 + length + end != size:
        raise ValueError(f"{cut} of {8 + length + end}; copy it again")
