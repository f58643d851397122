"""Losses, learning rates and the gradient's norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpn_platform.training.loop import StepResult
from dpn_platform.training.metric_lines import GRAD_NORM, Line
from dpn_platform.training.metrics import Sums


class LossMeter:
    """`train/loss` (eq. 7) and its terms, as they are minimised; `train/lr_*` of each parameter group.

    Over several steps `train/loss_lm` is a mean over supervised tokens, the method's terms over samples with a picture.
    `train/unanswered_samples`, where there are any: samples of which `max_length` left no answer. They teach nothing.
    """

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """See `Meter`."""
        sums: Sums = {"loss_lm": sum(result.loss_lm.double() * result.num_supervised_tokens for result in window)}
        for name in _weights(engine):
            found = [r.loss_terms[name].double() * r.num_pictured for r in window if name in r.loss_terms]
            sums |= {f"term_{name}": sum(found), f"num_{name}": len(found)}
        return sums

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """See `Meter`."""
        tokens = sum(result.num_supervised_tokens for result in window)
        line: Line = {"train/loss_lm": total["loss_lm"] / max(1, tokens)}
        line["train/loss"] = line["train/loss_lm"]
        if unanswered := sum(result.num_unanswered for result in window):
            line["train/unanswered_samples"] = unanswered
        for name, weight in _weights(engine).items():
            if total[f"num_{name}"]:
                term = total[f"term_{name}"] / max(1, sum(result.num_pictured for result in window))
                line[f"train/loss_{name}"] = term
                line["train/loss"] += weight * term
        line[GRAD_NORM] = float(engine.get_global_grad_norm() or 0.0)
        return line | _learning_rates(engine)


def _weights(engine: Any) -> dict[str, float]:
    """λ of every term that the method adds beside the language loss."""
    return {term.name: term.weight for term in engine.module.parts.losses if not term.joins_language_loss}


def _learning_rates(engine: Any) -> Line:
    """Of the next step, by group; `train/lr` is the first group's."""
    rates = {str(group["name"]): float(group["lr"]) for group in engine.optimizer.param_groups if "name" in group}
    named = {f"train/lr_{name}": rate for name, rate in rates.items()}
    return {"train/lr": float(engine.get_lr()[0]), **named}
