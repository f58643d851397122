"""The comparison of methods runs at toy size: every registered method, every figure. What they are is not asserted."""

from __future__ import annotations

import json

import pytest
import torch

from dpn_model.methods.registry import DENSE, find_method, method_names
from tests.benchmarks import rivals_speed
from tests.benchmarks.rival_runs import PHASES, PREFILL, Track, rivals_of, twin_of
from tests.benchmarks.speed_case import random_model, toy_config

SMALL = ["--image-size", "64", "--layers", "8", "--text", "12", "16", "--rounds", "1", "--threads", "0"]


@pytest.fixture(scope="module")
def options():
    return rivals_speed.parse_options([*SMALL, "--budget", "0.5"])


@pytest.fixture(scope="module")
def rivals(options):
    torch.manual_seed(0)
    model = random_model(toy_config(64), options)
    found, left_out = rivals_of(model, method_names(), options.budget)
    return Track(model, options, 2), {rival.name: rival for rival in found}, left_out


def test_the_figures_are_complete(tmp_path, capsys) -> None:
    file = tmp_path / "rivals.json"
    chosen = ["--methods", "fastv,static,downsample", "--batches", "2", "--json", str(file)]
    found = rivals_speed.main([*SMALL, "--budget", "0.5", *chosen])[2]
    assert list(found) == ["fastv", "static", "downsample"]
    for figures in found.values():
        assert figures.time.keys() == figures.flops.keys() == set(PHASES)
        assert all(ratio > 0 for ratio in figures.time.values())
        assert all(0 < ratio < 1 for ratio in figures.flops.values())
        assert figures.note == ""
    assert found["fastv"].beyond_kernel == ("attention rows",)
    assert 0 < found["fastv"].selection_macs < 0.05
    assert found["fastv"].selection_time is not None
    assert found["downsample"].selection_time is None
    printed = capsys.readouterr().out
    assert "batch 2, fastv: selection" in printed
    assert printed.count("time ratio over FLOPs ratio at most") == 3
    assert json.loads(file.read_text())["batches"]["2"]["methods"]["fastv"]["settings"]["name"] == "fastv"


@pytest.mark.parametrize("name", [name for name in method_names() if name != DENSE])
def test_every_method_has_its_turn_and_its_twin_the_same_tokens(rivals, name: str) -> None:
    track, found, left_out = rivals
    if name not in found:
        assert any(line.startswith(f"{name} is left out: ") for line in left_out)
        return
    rival = found[name]
    assert rival.note or find_method(name).budget is not None
    track.run(rival, PREFILL)
    routing = track.routing()
    assert track.flops(rival, PREFILL) > 0
    twin = twin_of(rival, routing)
    if twin is None:
        assert rival.parts.patches or rival.parts.resizer or rival.parts.projector
        return
    track.run(twin, PREFILL)
    assert [record.tokens_out for record in track.routing().records] == [r.tokens_out for r in routing.records]
    assert track.routing().prefill_cost(0, "true") == routing.prefill_cost(0, "true")
