"""What a checkpoint folder holds, told without torch; and the model in it, loaded."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpn_model.bases.chatrex.shape import is_chatrex
from dpn_model.methods.registry import DENSE, find_method, settings_of
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import download_folder, list_files, open_uri, read_json

if TYPE_CHECKING:
    from dpn_platform.evaluation.answering.contract import AnsweringModel

_OURS = "dpn_processor.json"
_DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Checkpoint:
    """A from_pretrained folder.

    Attributes:
        fingerprint: changes with its files' names, sizes or times.
        method: the reduction method of a checkpoint that runs packed: ours, or in the layout of LLaVA's authors; None
            for a model of transformers.
        settings: of that method.
        config: its config.json.
    """

    uri: str
    fingerprint: str
    method: str | None
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_routes(self) -> bool:
        """Whether its method chooses for every sample.

        Raises:
            DpnError: a method that is not registered here.
        """
        try:
            return self.method is not None and find_method(self.method).has_routes
        except ValueError as error:
            raise DpnError(f"{self.uri}: {error}") from error

    def routes(self) -> tuple[tuple[str, ...], ...]:
        """Every route that all its samples can be made to take; none where its method has none.

        Raises:
            DpnError: a method that is not registered here, or settings that do not fit the base.
        """
        try:
            spec = find_method(self.method or DENSE)
            if spec.routes is None:
                return ()
            from dpn_model import DpnConfig
            from dpn_model.bases.shapes import model_shape

            shape = model_shape(DpnConfig.from_dict(dict(self.config)).base)
            return tuple(spec.routes(settings_of(self.settings), shape))
        except ValueError as error:
            raise DpnError(f"{self.uri}: {error}") from error

    @property
    def name(self) -> str:
        """For people: the folder's name, with the run's before it where the folder is only called `export`."""
        parts = self.uri.rstrip("/").split("/")
        return "-".join(parts[-2:]) if parts[-1] == "export" else parts[-1]


def find_checkpoint(uri: str) -> Checkpoint:
    """Looks at a folder.

    Raises:
        DpnError: there is no checkpoint.
    """
    location = open_uri(uri)
    files = list_files(location.uri, recursive=False)
    names = {file.rpartition("/")[2] for file in files}
    if "config.json" not in names:
        raise DpnError(f"{uri}: no checkpoint there (no config.json); give a from_pretrained folder")
    infos = location.filesystem.get_file_info([open_uri(file).path for file in files])
    stamps = sorted((info.base_name, info.size, info.mtime_ns) for info in infos)
    config = read_json(f"{location.uri.rstrip('/')}/config.json")
    is_ours = _OURS in names or _is_original(config)
    settings = (config.get("method") or {}) if is_ours else {}
    method = str(settings.get("name", DENSE)) if is_ours else None
    digest = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]
    return Checkpoint(location.uri, digest, method, settings, config)


def _is_original(config: Mapping[str, Any]) -> bool:
    """Whether this is a checkpoint in a layout of LLaVA's or ChatRex's authors, which transformers does not read."""
    if is_chatrex(config):
        return True
    is_vila = "llm_cfg" in config  # grown out of LLaVA, its parts in folders of their own
    return "text_config" not in config and not is_vila and any(field.startswith("mm_") for field in config)


def check_dtype(dtype: str) -> str:
    """Refuses another dtype than the allowed ones.

    Raises:
        DpnError: it is none of them.
    """
    if dtype not in _DTYPES:
        raise DpnError(f"dtype '{dtype}' is unknown; allowed are {', '.join(_DTYPES)}")
    return dtype


def load_model(
    checkpoint: Checkpoint, *, use_gpu: bool, dtype: str = "auto", trust_remote_code: bool = False
) -> AnsweringModel:
    """The model, on this process's device.

    Args:
        checkpoint: of `find_checkpoint`.
        use_gpu: on the first visible one.
        dtype: "auto" is float16 on a GPU, as in the reference protocol, and float32 on a CPU.
        trust_remote_code: of a folder that is not ours, run its code where transformers has none for it.

    Raises:
        DpnError: it cannot be loaded.
    """
    import torch
    from safetensors import SafetensorError

    from dpn_platform.evaluation.answering.packed_model import PackedModel
    from dpn_platform.evaluation.answering.transformers_model import TransformersModel

    device = torch.device("cuda" if use_gpu else "cpu")
    chosen = getattr(torch, ("float16" if use_gpu else "float32") if dtype == "auto" else dtype)
    with local_folder(checkpoint.uri) as folder:
        if checkpoint.method is None:
            return TransformersModel(folder, device, chosen, trust_remote_code=trust_remote_code)
        try:
            return PackedModel(*load_ours(folder), device, chosen)
        except (ValueError, OSError, SafetensorError) as error:
            line = " ".join(str(error).split())[:500]
            raise DpnError(f"{checkpoint.uri}: cannot be loaded: {line}") from error


def load_ours(folder: str) -> tuple[Any, Any]:
    """Model and processor of a local from_pretrained folder."""
    from dpn_model import DpnForConditionalGeneration
    from dpn_model.processing import load_processor

    model = DpnForConditionalGeneration.from_pretrained(folder)
    return model, load_processor(folder, model.config)


@contextmanager
def local_folder(uri: str) -> Iterator[str]:
    """The folder on this machine's disk: itself, or a copy for as long as it is needed."""
    location = open_uri(uri)
    if location.is_local:
        yield location.path
        return
    with tempfile.TemporaryDirectory(prefix="dpn-checkpoint-") as folder:
        download_folder(uri, folder)
        yield folder
