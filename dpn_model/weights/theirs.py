"""Folders of transformers, read by transformers: it knows every layout that it has written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from dpn_model.bases.checks import check_base
from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.configuration import DpnConfig
from dpn_model.weights.arguments import WantedDtype
from dpn_model.weights.check import misfits
from dpn_model.weights.names import COMPUTED
from dpn_model.weights.router_row import HEAD
from dpn_model.weights.tying import set_tied


def read_config(folder: Path) -> PreTrainedConfig:
    """Configuration of a folder of transformers whose pictures this project knows.

    Raises:
        ValueError: another kind of model, or a configuration that transformers refuses.
    """
    with _one_line(folder / "config.json"):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    config.name_or_path = ""  # a saved configuration does not tell where its base lay
    if getattr(config, "quantization_config", None):
        raise ValueError(f"{folder / 'config.json'}: quantization_config is set; allowed: weights that are numbers")
    try:
        image_side_of(config)
    except ValueError as error:
        told = str(error).removeprefix("base_config.").replace("allowed: ", f"allowed: {DpnConfig.model_type}, ", 1)
        raise ValueError(f"{folder / 'config.json'}: {told}") from None
    try:
        check_base(config)
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from None
    return config


def read_with_transformers(folder: Path, dtype: WantedDtype) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The base's configuration and all its tensors, by the names they have in memory; a shared one once.

    Raises:
        ValueError: what transformers could not read, or had to draw, to leave out or to make smaller.
    """
    with _one_line(folder), _quiet():
        model, told = AutoModelForImageTextToText.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    unexpected = [name for name in told["unexpected_keys"] if not COMPUTED.search(name)]
    misshapen = [
        f"{name} {list(stored)} instead of {list(expected)}" for name, stored, expected in told["mismatched_keys"]
    ]
    problems = misfits({"missing": list(told["missing_keys"]), "unexpected": unexpected, "misshapen": misshapen})
    if problems:
        raise ValueError(f"{folder} does not fit the model; {problems}")
    tensors = dict(model.state_dict())
    model.config.name_or_path = ""
    base = model.config.to_dict()
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    set_tied(base, is_tied)
    if is_tied:
        del tensors[HEAD]
    return base, tensors


@contextmanager
def _one_line(what: Path) -> Iterator[None]:
    """Whatever transformers raises, as one line: its errors of reading have many kinds and many lines."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{what}: transformers cannot read it: {type(error).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its table of keys; we tell them ourselves."""
    logger = logging.getLogger("transformers")
    level, has_bar = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if has_bar:
            transformers_logging.enable_progress_bar()
