"""Proofs for machines: the JSON document that `dpn report dynamic --json` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dpn_platform.reports.dynamic.proof import Proof, summary_of


def proof_document(proof: Proof) -> dict[str, Any]:
    """One operating point as plain values, with its verdict."""
    plain: dict[str, Any] = proof.model_dump(mode="json")
    return {"point": proof.told, "is_dynamic": proof.is_dynamic, "verdict": proof.verdict, **plain}


def dynamic_document(proofs: Sequence[Proof]) -> dict[str, Any]:
    """All of them; accuracies and differences are fractions, costs FLOPs ratios in the named convention."""
    return {
        "summary": summary_of(proofs),
        "flops_convention": proofs[0].convention,
        "proofs": [proof_document(proof) for proof in proofs],
    }


def document_json(proofs: Sequence[Proof]) -> str:
    """`dynamic_document` as strict JSON text."""
    return json.dumps(dynamic_document(proofs), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
