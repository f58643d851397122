"""What selectors spend beside the decoder, for their plans. No torch."""

from __future__ import annotations

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.spec import Planned, plan_in_front, projector_macs


def cls_attention_macs(shape: ModelShape) -> int:
    """Multiply-accumulates of a class token's attention in one layer of the tower, as its probe bills them."""
    tower = shape.tower
    return 0 if tower is None else (tower.patches + tower.class_tokens) * tower.hidden_size


def tower_width(shape: ModelShape) -> int:
    """C; 0 of a base whose tower nobody can look at, which refuses such methods."""
    return 0 if shape.tower is None else shape.tower.hidden_size


def plan_before_projector(shape: ModelShape, text_tokens: int, tokens: int, selector_macs: int) -> Planned:
    """The plan of a selector that looks at a class token and projects `tokens` visual tokens, which is all that run."""
    macs = {"selector": selector_macs, "tower": cls_attention_macs(shape), **projector_macs(shape, tokens)}
    return plan_in_front(shape, text_tokens, tokens, **macs)
