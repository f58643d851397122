"""Points with outcome tables whose answers are known, for what compares many points on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.evaluation.points import Point


def write_point(
    folder: Path,
    name: str,
    scores: Sequence[float],
    cost: float,
    method: str = "dpn",
    per_picture: int = 2,
    others: dict[str, Sequence[float]] | None = None,
    first_id: int = 0,
    **more: Any,
) -> Point:
    """A point, and its table in `folder`.

    Args:
        scores: of the held-out questions, which are its accuracy.
        cost: FLOPs ratio; every question costs it.
        per_picture: questions that share a picture.
        others: scores on further benchmarks.
        first_id: of the questions, to make others.
        **more: fields of the point.
    """
    rows = [
        {
            "benchmark": benchmark,
            "variant": "",
            "place": first_id + place,
            "question_id": f"q{first_id + place}",
            "image_sha": f"picture {(first_id + place) // per_picture}",
            "in_headline": True,
            "score": float(score),
            "gold": "yes",
            "parsed": "yes",
            "swiglu_macs": round(1000 * cost),
            "swiglu_dense": 1000,
        }
        for benchmark, of_benchmark in {"heldout": scores, **(others or {})}.items()
        for place, score in enumerate(of_benchmark)
    ]
    uri = folder / f"{name}.parquet"
    uri.write_bytes(encode_table(rows))
    fields = {"accuracy_ci": (0.0, 1.0), "flops_ratio": {"swiglu": cost, "eq8": cost}, "visual_tokens_mean": 64 * cost}
    return Point(
        name=name, method=method, accuracy=float(np.mean(scores)), outcomes_uri=str(uri), n=len(scores), **fields | more
    )


def answers(accuracy: float, hardness: np.ndarray, seed: int, shared: float = 0.7) -> np.ndarray:
    """Scores with about this accuracy, which share how hard a question is."""
    own = np.random.default_rng(seed).normal(size=len(hardness))
    latent = shared**0.5 * hardness + (1 - shared) ** 0.5 * own
    return (latent < np.quantile(latent, accuracy)).astype(float)
