"""Configuration of the base that a run starts from, without its weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dpn_model import DpnConfig
from dpn_model.bases.catalogue import BASES
from dpn_model.configuration import base_config as named_config
from dpn_model.weights.folder import load_config
from dpn_platform.config.errors import ConfigError
from dpn_platform.storage import read_bytes
from dpn_platform.training.base import build_tiny
from dpn_platform.training.base_folder import TINY, find_folder


def base_config(base: str) -> DpnConfig:
    """Configuration of the base model a run starts from; a named base needs no weights for that.

    Raises:
        ConfigError: no from_pretrained folder there and no base of that name, or a folder whose configuration
            transformers cannot read.
    """
    if base == TINY:
        return build_tiny()[0].config
    if "://" in base:
        with tempfile.TemporaryDirectory(prefix="dpn-plan-") as folder:
            (Path(folder) / "config.json").write_bytes(read_bytes(f"{base.rstrip('/')}/config.json"))
            return _read_config(Path(folder), base)
    if (find_folder(base) / "config.json").is_file():
        return _read_config(find_folder(base), base)
    if base in BASES:
        return named_config(base)
    names = ", ".join(BASES)
    raise ConfigError(
        f"model.base = '{base}': no from_pretrained folder there; named bases that can be planned: {names}"
    )


def has_weights(base: str) -> bool:
    """Whether a run could start from `base`: all but a name of the catalogue."""
    return base == TINY or base not in BASES or (find_folder(base) / "config.json").is_file()


def _read_config(folder: Path, base: str) -> DpnConfig:
    try:
        return load_config(folder)
    except (FileNotFoundError, ValueError) as error:
        reason = str(error).replace(str(folder), base).splitlines()[0]
        raise ConfigError(f"model.base = '{base}': config.json cannot be planned with: {reason}") from None
