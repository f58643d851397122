"""Detectors from from_pretrained folders: what a folder holds, and the whole of it or one line."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForObjectDetection, AutoModelForZeroShotObjectDetection, PreTrainedModel

from dpn_model.weights.check import misfits
from dpn_model.weights.files import read_json

CONFIG = "config.json"
_LONGEST = 300


def model_type(folder: Path) -> str:
    """What the folder's config.json calls its model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}; wanted a from_pretrained folder of a detector")
    return str(read_json(folder / CONFIG).get("model_type"))


def load_model(folder: Path, device: str = "cpu", *, asks: bool = False) -> PreTrainedModel:
    """The folder's detector in float32; no code of the folder's runs.

    Args:
        folder: whose `model_type` has been looked at.
        device: where it is to run.
        asks: whether it is asked in words what to look for.

    Raises:
        ValueError: weights are missing or of another shape, or its parts need a package that is not installed.
    """
    kind = AutoModelForZeroShotObjectDetection if asks else AutoModelForObjectDetection
    try:
        model, notes = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(f"{folder} holds no detector that can be loaded: {in_short(error)}") from error
    # transformers would draw these, and say so in a warning.
    told = misfits({"missing": sorted(notes["missing_keys"]), "misshapen": sorted(map(str, notes["mismatched_keys"]))})
    if told:
        raise ValueError(f"{folder}: its weights do not fit its config.json; {told}")
    return model.to(device)


def in_short(error: Exception) -> str:
    """What a library says, as a part of our line."""
    return " ".join(str(error).split())[:_LONGEST]
