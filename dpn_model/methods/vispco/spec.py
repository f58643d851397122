"""Settings, plan and search space of VisPCO (arXiv 2604.15188; spec frontier A0)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import MethodSettings, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows
from dpn_model.methods.vispco.schedule import flattest_counts, steepest_counts

#: budgets that training goes through; a predictor learns all of them
BUDGETS = tuple(round(0.01 + number * (0.95 - 0.01) / 19, 6) for number in range(20))


@dataclass(frozen=True)
class VispcoSettings(MethodSettings):
    """Settings of VisPCO. Rows that stay keep their rotary positions.

    Attributes:
        budget: b at inference, the share of a picture's tokens, mean over layers: what FLOPs are but for the text and
            the square in attention. Training does not look at it, so one checkpoint serves all of them.
        ratio: "fitted": k is the predictor's and r what the budget leaves behind it, so that every sample costs the
            budget; "predicted": both are the predictor's, as in the authors' code, and so is the cost.
        weight: of the method's loss beside the language loss. 1: the authors', whose base is frozen. Where the base
            learns too, 0.001 makes the divergence weigh as much as the language loss.
        kl_weight: of the divergence of the pruned from the whole decoder, inside the method's loss.
        penalty: σ, of the squared gap between budget and cost, both in shares: a gap of 0.05 weighs as much as a
            divergence of 0.025.
        multiplier_speed: w in units of the weight that the optimiser moves.
        temperature: of the soft threshold, in shares of a picture's tokens.
    """

    name: ClassVar[str] = "vispco"
    budget: float = setting(0.3, "share of a picture's tokens that runs, mean over layers", gt=0, le=1)
    ratio: Literal["fitted", "predicted"] = setting("fitted", "r at inference: what the budget leaves, or predicted")
    weight: float = setting(1.0, "of the method's loss; 0.001 where the base learns too", ge=0)
    kl_weight: float = setting(1000.0, "of the pruned decoder's divergence from the whole one", ge=0)
    penalty: float = setting(10_000.0, "of the squared gap between budget and cost", ge=0)
    multiplier_speed: float = setting(10_000.0, "the gap's multiplier, over the weight that is trained", ge=0)
    temperature: float = setting(0.1, "of the soft threshold between kept and dropped tokens", gt=0)


def predictor_macs(hidden_size: int, rows: int) -> int:
    """Multiply-accumulates of one prediction from `rows` embeddings."""
    half, quarter, eighth = predictor_widths(hidden_size)
    blocks = sum(2 * before * after + after**2 for before, after in ((half, quarter), (quarter, eighth)))
    return rows * (hidden_size * half + blocks) + eighth + 3 * eighth**2 + 2 * eighth


def predictor_widths(hidden_size: int) -> tuple[int, int, int]:
    """H/2, H/4 and H/8."""
    half, quarter, eighth = (max(1, hidden_size // part) for part in (2, 4, 8))
    return half, quarter, eighth


def plan(settings: VispcoSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """Between a drop behind the first layer and one as late as it can be; predicted, anything may be dropped or kept.

    The fitted ones run the same number of tokens, and differ where attention grows with their square.
    """
    layers, tokens = shape.decoder.num_layers, math.prod(image_rows(shape))
    least, most = (tokens, *[1] * (layers - 1)), (tokens,) * layers
    if settings.ratio == "fitted":
        least, most = (counts(settings.budget, layers, tokens) for counts in (flattest_counts, steepest_counts))
    spent = predictor_macs(shape.decoder.hidden_size, tokens + text_tokens)
    return Planned(*(_ledger(counts, text_tokens, spent) for counts in (least, most)))


def trains(settings: VispcoSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """A whole copy and a masked one, both over all tokens; the predictor hears no answer, so from no text to all."""
    whole, width = (math.prod(image_rows(shape)),) * shape.decoder.num_layers, shape.decoder.hidden_size
    first = (_ledger(whole, text_tokens, predictor_macs(width, whole[0] + words)) for words in (0, text_tokens))
    masked = _ledger(whole, text_tokens, 0)
    return [Planned(*first), Planned(masked, masked)]


def _ledger(counts: Sequence[int], text_tokens: int, spent: int) -> Ledger:
    macs = {"predictor": spent} if spent else {}
    sites = range(len(counts))
    return Ledger.of_stages(len(counts), sites, (counts[0], *counts), text_tokens, num_images=1, macs=macs)


SPEC = MethodSpec(
    settings=VispcoSettings,
    label="VisPCO",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.vispco.reducer:build",
    search={
        "budget": Dimension("budget", 0.05, 0.6),
        "penalty": Dimension("penalty", 1000.0, 100_000.0, is_log=True),
    },
    needs_training="stage 2",
    is_query_aware=True,
    chooses="per sample",
    budget=Dimension("budget", 0.01, 1.0),
)
