"""Settings and plan of Gamma-MoD (arXiv 2410.13859; spec peer-methods 7.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad, Rows
from dpn_model.methods.patched_layers import ledger_of, resolve_layers, rows_of
from dpn_model.methods.settings import MethodSettings, Positions, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

#: layers of the release's base, and how many of them in front stay whole; the last one does too
_RELEASED_DEPTH, _RELEASED_WHOLE = 32, 3


@dataclass(frozen=True)
class GammaModSettings(MethodSettings):
    """Settings of Gamma-MoD.

    Attributes:
        layers: that run on some tokens; the release's are all but the first three and the last of 32, and as many in
            proportion at other depths.
        capacity: share of image and system tokens that run such a layer in training; all others do.
        rule: who runs at inference. "threshold": as in the authors' code, tokens above a probability, so that nothing
            ties their number to `capacity`; "capacity": as in training, and every token that is generated.
        threshold: probability above which a token of a prompt runs.
        decode_threshold: that from which a generated token does.
        positions: of the tokens that run, inside the layer: renumbered as in the authors' code, or kept.
        routing_weight: of the cross entropy that teaches the router what it chose.
    """

    name: ClassVar[str] = "gamma_mod"
    layers: tuple[int, ...] | None = setting(
        None, "layers on some tokens; default all but the first few, the last", ge=1
    )
    capacity: float = setting(0.5, "share of image and system tokens that run a layer in training", gt=0, le=1)
    rule: Literal["threshold", "capacity"] = setting("threshold", "which tokens run at inference")
    threshold: float = setting(0.005, "probability above which a token of the prompt runs", ge=0, lt=1)
    decode_threshold: float = setting(0.5, "probability from which a generated token runs", ge=0, lt=1)
    positions: Positions = setting("contiguous", "rotary positions inside a layer: renumbered, or kept")
    routing_weight: float = setting(0.01, "of the router's cross entropy", ge=0)

    def resolve_layers(self, num_layers: int) -> tuple[int, ...]:
        """Layers on some tokens, 1-based. Raises ValueError where they do not fit the decoder."""
        whole = max(1, round(num_layers * _RELEASED_WHOLE / _RELEASED_DEPTH))
        return resolve_layers(self.layers, range(whole + 1, num_layers), num_layers)


def routed(tokens: int, capacity: float) -> int:
    """Image and system tokens that run a layer, of so many.

    The authors' k = ceil(L · (1 - tokens · (1 - capacity) / L)) of L rows, less the others, which all run.
    """
    return math.ceil(tokens * capacity - 1e-9)


def plan(settings: GammaModSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """By threshold, anything between no token and all; by capacity, what depends on the length of the system prompt."""
    layers, rows = settings.resolve_layers(shape.decoder.num_layers), rows_of(shape, text_tokens)
    router = 2 * shape.decoder.hidden_size
    macs = {"router": len(layers) * sum(rows) * router}
    fewest, most = Rows(0, 0), rows
    if settings.rule == "capacity":
        # The text may stand in front of the picture and be routed with it, or behind it and run.
        together = routed(sum(rows), settings.capacity)
        fewest = Rows(max(0, together - rows.text), min(together, rows.text))
        most = Rows(min(rows.visual, together), rows.text)
    loads = (LayerLoad(rows, ran, ran, ran, new_macs=router) for ran in (fewest, most))
    cheapest, dearest = (ledger_of(shape, rows, dict.fromkeys(layers, load), macs) for load in loads)
    return Planned(cheapest, dearest)


def trains(settings: GammaModSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """By capacity, whatever the rule at inference."""
    return [plan(replace(settings, rule="capacity"), shape, text_tokens)]


SPEC = MethodSpec(
    settings=GammaModSettings,
    label="γ-MoD",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.gamma_mod.patch:build",
    search={"capacity": Dimension("capacity", 0.2, 0.9)},
    needs_training="stage 2",
    chooses="per sample",
)
