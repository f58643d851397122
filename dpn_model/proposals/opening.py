"""A source of proposals from a plain description of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpn_model.proposals.contract import Limits, ProposalSource

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


def kind_of(place: str) -> SourceKind:
    """What kind of source a word of the command line names, by what lies there.

    Args:
        place: "jitter", a file or a folder on this machine.

    Raises:
        FileNotFoundError: nothing lies there.
        ValueError: it is no source.
    """
    if place == "jitter":
        return "jitter"
    path = Path(place)
    if path.is_dir():
        from dpn_model.proposals.detector import DETECTORS
        from dpn_model.proposals.folders import model_type
        from dpn_model.proposals.grounding import GROUNDING

        found = model_type(path)
        if found in GROUNDING:
            return "grounding"
        if found in DETECTORS:
            return "detector"
        raise ValueError(
            f"{place} holds a model of type {found}; sources are {', '.join(sorted(DETECTORS | GROUNDING))}"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{place}: nothing is there; wanted a file of proposals (.jsonl), a detector's folder, a file of UPN's "
            "weights (.pth), or jitter"
        )
    return "files" if path.suffix in (".jsonl", ".json") else "upn"


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
