"""Fifty steps of training give the losses in the files (golden.py writes them)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from tests.training.golden import METHODS, STEPS, compute_curves, golden_file

pytestmark = pytest.mark.slow

# Measured between one thread with vector instructions (AVX) and two without, the routes being the same: 2e-6 for dense
# and default; 9e-5 and, of a hinge on its way to zero, 3e-4 for paper, whose choices have sharp edges (T = 1, top-1).
TOLERANCES = {"dense": 5e-5, "default": 5e-5, "paper": 2e-3}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", METHODS)
def test_fifty_steps_give_the_losses_on_file(process_group, name: str) -> None:
    golden, curves = json.loads(golden_file(name).read_text()), compute_curves(name)
    assert len(golden["loss_lm"]) == STEPS
    assert golden["loss_lm"][-1] < 0.7 * golden["loss_lm"][0]
    assert curves["visual_tokens_kept"] == golden["visual_tokens_kept"]
    for key in ("loss_lm", "loss_routing"):
        assert curves[key] == pytest.approx(golden[key], rel=TOLERANCES[name], abs=TOLERANCES[name] / 10), key
