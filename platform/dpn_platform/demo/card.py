"""The card of a trained base: what it is, how it was made, how well it answers. Written beside its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from dpn_platform.config.load import dump_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.recipe import DemoKind
from dpn_platform.evaluation.result import EvaluationResult

CARD, CURVE, WEIGHTS = "README.md", "curve.png", "model.safetensors"
#: whose mean is the final loss
LAST_LINES = 10


def write_card(
    folder: str | Path,
    kind: DemoKind,
    *,
    config: ExperimentConfig,
    result: EvaluationResult,
    metrics: Sequence[Mapping[str, float]],
    data_fingerprint: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write `README.md` and `curve.png` into a from_pretrained folder.

    Args:
        folder: holds `model.safetensors`.
        kind: of the set it was trained on.
        config: the recipe, as resolved.
        result: evaluation on the held-out split.
        metrics: the run's metric lines.
        data_fingerprint: of the published training set.
        provenance: code version and packages of the run that trained it.
    """
    folder = Path(folder)
    _draw_curve(folder / CURVE, metrics)
    low, high = result.accuracy_ci
    lines = [
        *_HEADERS[kind],
        f"**{result.accuracy:.1%}** of {result.n} held-out questions right (95% interval {low:.1%} to {high:.1%}).",
        "",
        *_family_table(result),
        "",
        f"![training loss]({CURVE})",
        "",
        *_facts(folder / WEIGHTS, config, metrics, data_fingerprint, provenance.get("git") or {}),
        "",
        f"`{_COMMANDS[kind]}` makes it again.",
        "",
        "```yaml",
        dump_config(config).rstrip(),
        "```",
        "",
    ]
    (folder / CARD).write_text("\n".join(lines))


_COMMANDS: dict[DemoKind, str] = {"demo": "make base", "detection": "make chatrex-base"}
_HEADERS: dict[DemoKind, tuple[str, ...]] = {
    "demo": (
        "# tiny-llava",
        "",
        "A LLaVA of about a million parameters (CLIP-style tower, mlp2x projector, 8-layer Llama decoder, 64 visual",
        "tokens), dense, made for the demo: its trials are fine-tuned from it. The tower learned from drawn scenes",
        "what stands in every patch; projector and decoder then learned the demo set's questions, the tower kept as",
        "it was.",
        "",
    ),
    "detection": (
        "# tiny-chatrex",
        "",
        "A ChatRex of about 1.3 million parameters (ConvNeXt beside a CLIP-style tower, two projectors, 4-layer",
        "Llama decoder, 64 visual tokens, up to 100 boxes), dense, made for the detection set: its trials are",
        "fine-tuned from it. Three lessons: towers and projectors were told what every box and every cell shows,",
        "read out by the words' own rows; the decoder learned to retrieve, without visual tokens; then everything",
        "but the towers learned the set's questions with its pictures.",
        "",
    ),
}


def _facts(
    weights: Path,
    config: ExperimentConfig,
    metrics: Sequence[Mapping[str, float]],
    data_fingerprint: str,
    git: Mapping[str, Any],
) -> list[str]:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    losses = [line["train/loss_lm"] for line in metrics[-LAST_LINES:]]
    train = config.train
    return [
        "| | |",
        "|---|---|",
        f"| recipe | below; seed {train.seed}, {train.steps} steps of {train.global_batch_size} samples |",
        f"| final loss | {sum(losses) / len(losses):.4f} (mean of the last lines) |",
        f"| data | {config.data.uri}, fingerprint `{data_fingerprint}` |",
        f"| code | `{git.get('sha', 'unknown')}`{' with local changes' if git.get('dirty') else ''} |",
        f"| weights | sha256 `{digest}` |",
    ]


def _family_table(result: EvaluationResult) -> list[str]:
    rows = ["| family | right | 95% interval | questions | commonest answer |", "|---|---|---|---|---|"]
    for name, score in result.per_family.items():
        majority = "" if score.majority_rate is None else f"{score.majority_rate:.1%}"
        rows.append(
            f"| {name} | {score.accuracy:.1%} | {score.ci[0]:.1%} to {score.ci[1]:.1%} | {score.n} | {majority} |"
        )
    return rows


def _draw_curve(file: Path, metrics: Sequence[Mapping[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
    axes.plot([line["step"] for line in metrics], [line["train/loss_lm"] for line in metrics], linewidth=0.8)
    axes.set(xlabel="optimiser step", ylabel="loss per answer token")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=100)
    plt.close(figure)
