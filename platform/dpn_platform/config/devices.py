"""What devices can do at most, where somebody has measured it."""

from __future__ import annotations

#: dense bf16 TFLOP/s a large matrix product reaches, measured (spec performance, head); of other devices the user tells
PEAK_TFLOPS = {"h200": 790.0}


def known_peak_tflops(device: str) -> float | None:
    """Peak of a device by its name in any spelling that contains a known one ("NVIDIA H200"); None: not measured."""
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device.lower()), None)
