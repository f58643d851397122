"""The grid that pooling leaves, by arithmetic alone: plans need no torch."""

from __future__ import annotations

from dpn_model.methods.settings import Kernel


def pooled_size(height: int, width: int, kernel: Kernel, rounding: str = "floor") -> tuple[int, int]:
    """Grid after pooling; `rounding` says what becomes of a border that fills no window."""
    if rounding == "ceil":
        return -(-height // kernel[0]), -(-width // kernel[1])
    return height // kernel[0], width // kernel[1]


def pooled_grid(height: int, width: int, kernel: Kernel, rounding: str = "floor") -> tuple[int, int]:
    """The same of a grid that has to have at least one window.

    Raises:
        ValueError: it has none.
    """
    size = pooled_size(height, width, kernel, rounding)
    if 0 in size:
        grid, window = f"{height}x{width}", f"{kernel[0]}x{kernel[1]}"
        raise ValueError(f"a {grid} grid is too small for the {window} kernel; use smaller kernels or fewer sites")
    return size
