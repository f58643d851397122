"""Files that are no weights: each is told in one line that names it, and nothing is tried a second time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import dpn_model
from dpn_model import DpnForConditionalGeneration
from dpn_model.weights.tensors import write_folder

TINY = Path(dpn_model.__file__).parent / "assets" / "tiny-llava"
SAFE = (TINY / "model.safetensors").read_bytes()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 14096\n"
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


def cut_zip(folder: Path) -> bytes:
    torch.save({"a": torch.ones(1000)}, folder / "whole")
    content = (folder / "whole").read_bytes()
    return content[: len(content) // 2]


def cut_pickle(folder: Path) -> bytes:
    torch.save({"a": torch.ones(1000)}, folder / "whole", _use_new_zipfile_serialization=False)
    content = (folder / "whole").read_bytes()
    return content[: len(content) // 2]


CASES: list[tuple[str, bytes | Callable[[Path], bytes], str]] = [
    ("model.safetensors", POINTER, "Git LFS pointer: no weights .*`git lfs pull`"),
    ("pytorch_model.bin", POINTER, "Git LFS pointer: no weights .*`git lfs pull`"),
    ("model.safetensors", SAFE[: len(SAFE) // 2], f"cut after {len(SAFE) // 2} bytes of {len(SAFE)}"),
    ("model.safetensors", SAFE[:100], "cut after 100 bytes"),
    ("model.safetensors", SAFE + b"more", "copy it again"),
    ("model.safetensors", b"", "holds no weights: it is empty"),
    ("pytorch_model.bin", b"", "holds no weights: it is empty"),
    ("pytorch_model.bin", b"<!DOCTYPE html><html>not found</html>", "holds no weights: it is a web page"),
    ("model.safetensors", b"\n<html>", "holds no weights: it is a web page"),
    ("pytorch_model.bin", b"Entry not found", "holds no weights: it is not a PyTorch file"),
    ("pytorch_model.bin", cut_zip, "holds no weights that can be read: it is cut"),
    ("pytorch_model.bin", cut_pickle, "holds no weights that can be read"),
    ("model.safetensors.index.json", b"{", "is not JSON"),
    ("model.safetensors.index.json", b"{}", "has no weight_map"),
    ("model.safetensors.index.json", b'{"weight_map": {"a": "../x.safetensors"}}', "names '../x.safetensors'; allowed"),
    ("model.safetensors.index.json", INDEX.encode(), "model-00001-of-00002.safetensors does not exist; .* incomplete"),
    ("adapter_config.json", b"{}", "holds adapters; merge them into their base"),
    ("mm_projector.bin", b"", "holds no weights; it holds a projector"),
    ("config.json", b"<html>", "is not JSON"),
    ("tokenizer.json", POINTER, "Git LFS pointer: no weights .*`git lfs pull`"),
]


@pytest.mark.parametrize("kind", ["ours", "original", "of transformers"])
@pytest.mark.parametrize(("name", "content", "told"), CASES, ids=[f"{name}: {told[:30]}" for name, _, told in CASES])
def test_what_is_no_weights_is_told(
    kind: str, name: str, content: bytes | Callable[[Path], bytes], told: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    configs = {"original": {"mm_hidden_size": 64}, "of transformers": {"model_type": "llava"}}
    (folder / "config.json").write_text(json.dumps(configs.get(kind)))
    if kind == "ours":
        shutil.copy(TINY / "config.json", folder)
    if name in ("tokenizer.json", "config.json"):
        (folder / "model.safetensors").write_bytes(SAFE)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=told) as error:
        DpnForConditionalGeneration.from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_of_the_hub_is_no_folder() -> None:
    with pytest.raises(FileNotFoundError, match=r"llava-hf/llava-1.5-7b-hf: no such folder; .*hf download") as error:
        DpnForConditionalGeneration.from_pretrained("llava-hf/llava-1.5-7b-hf")
    assert "\n" not in str(error.value)


def test_shards_do_not_hide_behind_another_models_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    tensors = {name: torch.ones(100) for name in "abc"}
    with pytest.raises(ValueError, match="holds model.safetensors of another model"):
        write_folder(tmp_path, tensors, max_shard_bytes=500)
    assert load_file(tmp_path / "model.safetensors").keys() == {"a"}
