"""What a decision of the router costs, without building one."""

from __future__ import annotations


def router_width(hidden_size: int, hidden_divisor: int = 4) -> int:
    """Hidden width of a router of kind v1."""
    return max(1, hidden_size // hidden_divisor)


def router_macs(hidden_size: int, num_experts: int, kind: str, hidden_divisor: int = 4) -> int:
    """Multiply-accumulates of one decision: of two matrices ("v1"), or of one ("linear")."""
    if kind == "v1":
        return router_width(hidden_size, hidden_divisor) * (hidden_size + num_experts)
    return hidden_size * num_experts
