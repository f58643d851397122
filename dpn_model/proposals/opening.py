"""A source of proposals from a plain description of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpn_model.proposals.contract import Limits, ProposalSource
from dpn_model.proposals.families import DETECTORS, GROUNDING

SourceKind = Literal["files", "detector", "grounding", "upn", "jitter"]
SOURCE_KINDS: tuple[SourceKind, ...] = ("files", "detector", "grounding", "upn", "jitter")


@dataclass(frozen=True)
class SourceSpec:
    """What is to be opened.

    Attributes:
        kind: "files": JSON lines that were made before; "detector" or "grounding": a from_pretrained folder; "upn":
            the file of UPN's weights; "jitter": true boxes, moved.
        place: the file or folder, on this machine; empty for "jitter".
        threshold: least score; None means .25 for "grounding" and .3 otherwise.
        nms: see `Limits`.
        granularity: of "upn", "fine" or "coarse".
        seed: of "jitter".
        device: of a network.
    """

    kind: SourceKind
    place: str = ""
    threshold: float | None = None
    nms: float = 0.8
    granularity: Literal["fine", "coarse"] = "fine"
    seed: int = 0
    device: str = "cpu"

    @property
    def limits(self) -> Limits:
        """Threshold and suppression. Raises ValueError where they are none."""
        usual = 0.25 if self.kind == "grounding" else 0.3
        return Limits(usual if self.threshold is None else self.threshold, self.nms)


def kind_of_file(name: str) -> SourceKind:
    """What a word of the command line that names no folder is taken for, by its ending."""
    if name == "jitter":
        return "jitter"
    return "files" if name.endswith((".jsonl", ".json")) else "upn"


def kind_of_model(model_type: str, folder: str) -> SourceKind:
    """What a from_pretrained folder is taken for.

    Args:
        model_type: what its config.json calls the model.
        folder: where it lies, for the error.

    Raises:
        ValueError: a model that proposes nothing.
    """
    if model_type in GROUNDING:
        return "grounding"
    if model_type in DETECTORS:
        return "detector"
    known = ", ".join(sorted(DETECTORS | GROUNDING))
    raise ValueError(f"{folder} holds a model of type {model_type}; those that propose boxes are {known}")


def open_source(spec: SourceSpec) -> ProposalSource:
    """The source, ready to propose.

    Raises:
        FileNotFoundError, ValueError: in one line, what is not there, not whole or not allowed.
    """
    # torch and transformers are imported only for what runs a network.
    limits, place = spec.limits, Path(spec.place)
    if spec.kind == "jitter":
        from dpn_model.proposals.jitter import JitteredTruth

        return JitteredTruth(spec.seed, limits)
    if spec.kind == "files":
        from dpn_model.proposals.files import ProposalFile

        return ProposalFile(place, limits)
    if spec.kind == "upn":
        from dpn_model.proposals.upn.source import Upn

        return Upn.from_file(place, spec.granularity, limits, spec.device)
    if spec.kind == "grounding":
        from dpn_model.proposals.grounding import load_grounding

        return load_grounding(place, limits, device=spec.device)
    if spec.kind == "detector":
        from dpn_model.proposals.detector import load_detector

        return load_detector(place, limits, device=spec.device)
    raise ValueError(f"kind is {spec.kind}; allowed: {', '.join(SOURCE_KINDS)}")
