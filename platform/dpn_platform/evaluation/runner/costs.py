"""What an evaluation cost, beside its score: from the routes, caches and times of the questions that really ran."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpn_platform.evaluation.runner.lines import Line, timing_of
from dpn_platform.evaluation.scoring import CONVENTIONS, flops_ratios

_MIB = 2**20


def cost_of(lines: Sequence[Line], times: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cost columns; what was not measured, or what nobody can know of a foreign model, is None.

    FLOPs ratios, KV caches and token counts are over all questions that the model ran for, `population` of them, and
    `with_picture` of these show one. Visual tokens and routes are over those that have any in the decoder, which a
    picture seen by cross-attention has not; `flops_ratio_swiglu_with_picture` is the ratio over these (spec base-models
    E). Times are per question, of batches of the size that `run` names, the first batch of each worker left out.
    """
    ran = [line["metadata"] for line in lines if "new_tokens" in line["metadata"]]
    shown = [one for one in ran if one["visual_tokens"][0]]
    ratios = flops_ratios(ran)
    costs: dict[str, Any] = {f"flops_ratio_{name}": _or_none(ratios.get(name, math.nan)) for name in CONVENTIONS}
    costs |= {
        "population": len(ran),
        "with_picture": sum(one["image_sha"] is not None for one in ran),
        "flops_ratio_swiglu_with_picture": _or_none(flops_ratios(shown).get("swiglu", math.nan)),
        "visual_tokens_mean": _mean([one["visual_tokens_mean"] for one in shown]),
        "visual_tokens_before_reduction": _mean([one["visual_tokens"][0] for one in shown]),
        "kv_mib_mean": _mean([one["kv_bytes"] / _MIB for one in ran if one["kv_bytes"] is not None]),
        "prompt_tokens_mean": _mean([one["prompt_tokens"] for one in ran]),
        "prompt_tokens_p95": float(np.quantile([one["prompt_tokens"] for one in ran], 0.95)) if ran else None,
        "new_tokens_mean": _mean([one["new_tokens"] for one in ran]),
        "routes": dict(Counter(one["route"] for one in shown if one["route"]).most_common()),
    }
    return costs | _times(times) | {"run": _runs(times)}


def _times(times: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Milliseconds per question (decoding: per token behind the first), and questions per second of one worker."""
    timing = timing_of(times)
    count, seconds = timing.num_samples, timing.vision_s + timing.prefill_s + timing.decode_s
    wall_s = sum(one["wall_s"] for one in times)
    questions = sum(one["num_questions"] for one in times)
    return {
        "num_timed": count,
        "vision_ms": 1000 * timing.vision_s / count if count else None,
        "prefill_ms": 1000 * timing.prefill_s / count if count else None,
        "decode_ms_per_token": 1000 * timing.decode_s / timing.decode_tokens if timing.decode_tokens else None,
        "samples_per_second": count / seconds if seconds else None,
        "samples_per_second_with_host": questions / wall_s if wall_s else None,
    }


def _runs(times: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Batch size, dtype, attention and device of the workers; several where a run was resumed with other settings."""
    return [dict(found) for found in sorted({tuple(sorted(one["run"].items())) for one in times}, key=str)]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
