"""What the methods save in time, beside what they save in FLOPs: a training step and a prefill, dense against reduced.

`make bench` prints a table. Methods take turns within every round and each figure is the median of several rounds, so a
machine that slows down slows all of them. Not part of `make test`: timing decides nothing there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing.images import normalise
from dpn_platform.demo.families import VISUAL_FAMILIES, draw_sample
from dpn_platform.training.base import build_tiny

ROUNDS, BATCH = 7, 32
METHODS = {
    "dense": (Method(name="dense"), None),
    "static 1x2": (Method(name="static", kernel="1x2"), None),
    "static 2x2": (Method(name="static", kernel="2x2"), None),
    "random drop 0.5": (Method(name="random_drop", keep_ratio=0.5), None),
    "dpn, all 2x2": (Method(name="dpn"), ("2x2", "2x2", "2x2")),
    "dpn, all 1x1": (Method(name="dpn"), ("1x1", "1x1", "1x1")),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepared(name: str) -> tuple[Callable[[], None], Callable[[], None], float]:
    """A training step and a prefill of the method, and its FLOPs ratio ("swiglu") in that prefill."""
    method, route = METHODS[name]
    torch.manual_seed(0)
    model, processor = build_tiny()
    model.configure_method(method)
    model.set_route(route)
    samples = [
        draw_sample(VISUAL_FAMILIES[number % len(VISUAL_FAMILIES)], np.random.default_rng(number), 96)
        for number in range(BATCH)
    ]
    encoded = [
        processor.encode_training([(f"<image>\n{text}", answer)], [sample.image], router=model.needs_router_token)
        for sample in samples
        for text, answer in sample.turns
    ]
    batch = processor.collate(encoded)
    batch["pixel_values"] = normalise(batch["pixel_values"])

    def step() -> None:
        model.train()(**batch).loss.backward()
        model.zero_grad()

    @torch.no_grad()
    def prefill() -> None:
        model.eval()(batch["input_ids"], batch["attention_mask"], batch["pixel_values"])

    prefill()
    return step, prefill, _ratio(model)


def _ratio(model: DpnForConditionalGeneration) -> float:
    if model.last_routing is None:
        return 1.0
    routing = model.last_routing
    costs = [routing.prefill_cost(sample, "swiglu") for sample in range(routing.num_samples)]
    return sum(cost.total for cost in costs) / sum(cost.dense for cost in costs)


def test_methods_against_dense() -> None:
    runs = {name: prepared(name) for name in METHODS}
    seconds: dict[tuple[str, int], list[float]] = {(name, kind): [] for name in METHODS for kind in (0, 1)}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            for kind in (0, 1):
                started = time.perf_counter()
                run[kind]()
                seconds[name, kind].append(time.perf_counter() - started)
    median = {key: statistics.median(values[1:]) for key, values in seconds.items()}  # the first round warms up
    print(f"\n{'method':<16} {'FLOPs (swiglu)':>14} {'training step':>22} {'prefill':>22}")
    for name, (_, _, ratio) in runs.items():
        columns = [
            f"{1e3 * median[name, kind]:8.1f} ms {median[name, kind] / median['dense', kind]:7.2f} x" for kind in (0, 1)
        ]
        print(f"{name:<16} {ratio:>14.2f} {columns[0]:>22} {columns[1]:>22}")
    assert all(value > 0 for value in median.values())
