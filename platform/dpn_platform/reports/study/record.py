"""StudyRecord: everything a report is drawn from, as one JSON document.

The record is written beside every report (`study.json`), so a report can be redrawn later, elsewhere, without the
runs, the checkpoints or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.front_records import FrontStatistics
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.reports.dynamic.proof import Proof
from dpn_platform.reports.study.difference import Claim

RECORD_NAME = "study.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StudyRecord:
    """A study as the report sees it.

    Attributes:
        name: the study's name.
        points: every evaluated trial and control.
        mlflow_uri: address of the study in the MLflow UI; empty when there is none.
        meta: what to state beside the numbers. Known keys: `created` (ISO time), `split`, `interval` (text), `seed`,
            `train_steps`, `base`, `data_uri`, `data_fingerprint`, `config_fingerprint`, `code_version`, `versions`
            (package -> version), `command`, `duration_s`, `stopped` (trial -> reason). Others are listed as they are.
        examples: samples for the gallery: `image` (base64 JPEG or None), `question`, `answer`, `gold`, `family`,
            `route` (one kernel per site), `visual_tokens` (per stage), `correct`.
        examples_point: name of the point the examples come from.
        convention: the FLOPs convention on the x axis, of the front and of the hypervolume.
        claims: what each point gains over the best mixture of controls at its cost.
        proofs: of points that choose per sample and were measured on each of their routes; seeds each by itself.
        statistics: of the front over draws of the questions; None where no outcomes could be compared.
    """

    name: str
    points: tuple[Point, ...]
    mlflow_uri: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    examples_point: str | None = None
    convention: Convention = "swiglu"
    claims: tuple[Claim, ...] = ()
    proofs: tuple[Proof, ...] = ()
    statistics: FrontStatistics | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": self.name,
            "mlflow_uri": self.mlflow_uri,
            "convention": self.convention,
            "meta": dict(self.meta),
            "points": [point.to_json() for point in self.points],
            "claims": [claim.to_json() for claim in self.claims],
            "proofs": [proof.model_dump(mode="json") for proof in self.proofs],
            "statistics": None if self.statistics is None else self.statistics.model_dump(mode="json"),
            "examples_point": self.examples_point,
            "examples": [dict(example) for example in self.examples],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], source: str = RECORD_NAME) -> StudyRecord:
        """The record that `to_json` wrote.

        Raises:
            DpnError: not a study record, or one of a newer version; names `source` and the field.
        """
        if document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise DpnError(
                f"{source}: schema_version {document['schema_version']}, this version reads {SCHEMA_VERSION}"
            )
        try:
            return cls(
                name=document["study"],
                points=tuple(Point.from_json(point) for point in document["points"]),
                mlflow_uri=document.get("mlflow_uri") or "",
                meta=document.get("meta") or {},
                examples=tuple(document.get("examples") or ()),
                examples_point=document.get("examples_point"),
                convention=document.get("convention", "swiglu"),
                claims=tuple(Claim.from_json(claim) for claim in document.get("claims") or ()),
                proofs=tuple(Proof.model_validate(proof) for proof in document.get("proofs") or ()),
                statistics=FrontStatistics.model_validate(stated) if (stated := document.get("statistics")) else None,
            )
        except KeyError as error:
            raise DpnError(f"{source}: not a study record, {error} is missing") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DpnError(
                f"{source}: a point, a proof or the statistics cannot be read, {where}: {first['msg']}"
            ) from None


def parse_record(text: str | bytes, source: str) -> StudyRecord:
    """The study record in a JSON text.

    Raises:
        DpnError: not JSON or not a study record.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DpnError(f"{source}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise DpnError(f"{source}: not a study record, expected an object")
    return StudyRecord.from_json(document, source)
