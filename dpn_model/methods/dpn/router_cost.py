"""Multiply-accumulates of one decision of a router (spec base-models A.3), and the width they follow from."""

from __future__ import annotations


def router_width(hidden_size: int, hidden_divisor: int) -> int:
    """Hidden width of a router of kind v1."""
    return max(1, hidden_size // hidden_divisor)


def router_macs(hidden_size: int, num_experts: int, kind: str, hidden_divisor: int = 4) -> int:
    """Its matrices: D x D/4 and D/4 x E ("v1"), or D x E ("linear")."""
    if kind == "linear":
        return hidden_size * num_experts
    width = router_width(hidden_size, hidden_divisor)
    return hidden_size * width + width * num_experts
