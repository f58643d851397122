"""The arithmetic of speed, with clocks that are told; operations against the plan's; the routers' lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dpn_model.methods.registry import find_method
from dpn_platform.config.training import TrainConfig
from dpn_platform.planning import compute
from dpn_platform.training import loop
from dpn_platform.training.loop import StepResult, run_loop, to_device
from dpn_platform.training.metrics import MetricsLog
from dpn_platform.training.router_monitor import RouterMonitor
from dpn_platform.training.routing_history import routing_history
from dpn_platform.training.step_flops import Passes, head_flops, step_flops
from dpn_platform.training.throughput import Throughput, spent_device_hours

SUPERVISED = 6


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def routed(build_tiny_model, build_batch) -> Any:
    """A real forward pass of four samples, one of them text: its output."""
    torch.manual_seed(0)
    return build_tiny_model("dpn")(**to_device(build_batch(range(4)), torch.device("cpu"), torch.float32))


@pytest.fixture
def slow_loop(process_group, build_log_engine, routed, runs_uri: str, monkeypatch) -> Any:
    """Two steps of a loop in which a batch takes 1 s, a step 3 s and each callback behind the log 0.5 s."""
    clock, engine = Clock(), build_log_engine()
    engine.train = lambda: None

    class Slow:
        def after_step(self, engine: Any, result: StepResult) -> None:
            clock.now += 0.5

    def train_step(engine: Any, micro_batches: Any, step: int) -> StepResult:
        clock.now += 3.0
        return StepResult(
            step, SUPERVISED, torch.tensor(1.0), num_tokens=40, sample_keys=[1, 2, 3, 4], routing=[routed.routing]
        )

    def batches() -> Any:
        while True:
            clock.now += 1.0
            yield {}

    def run(earlier_hours: float = 0.0, **train: Any) -> dict[str, float]:
        config = TrainConfig(steps=2, log_every_steps=2, **train)
        meters = [Throughput(config, earlier_hours, clock), RouterMonitor()]
        log = MetricsLog(f"{runs_uri}/a", config, 0, meters)
        run_loop(engine, batches(), config, start_step=0, callbacks=[log, Slow()], clock=clock)
        return log.last

    monkeypatch.setattr(loop, "train_step", train_step)
    return run


def test_speed_is_what_the_clock_says(slow_loop) -> None:
    line = slow_loop(earlier_hours=2.0)
    assert line["train/step_ms"] == pytest.approx(4000)
    assert line["train/data_wait_fraction"] == pytest.approx(0.25)
    assert line["train/samples_per_second"] == pytest.approx(8 / 8)
    assert line["train/tokens_per_second"] == pytest.approx(80 / 8)
    # The line is made after the first step's callbacks only: half a second of eight and a half.
    assert line["train/callbacks_fraction"] == pytest.approx(0.5 / 8.5)
    assert line["train/device_hours"] == pytest.approx(2.0 + 8.5 / 3600)
    assert spent_device_hours([line, {"step": 1}]) == line["train/device_hours"]
    assert "train/mfu" not in line
    assert "train/gpu_memory_gib" not in line


def test_mfu_is_work_over_peak(slow_loop, routed, build_tiny_model) -> None:
    passes = Passes.of(build_tiny_model("dpn"), is_checkpointed=False)
    account = step_flops([routed.routing], passes)
    head = head_flops(routed.routing.shape.decoder, SUPERVISED, passes)
    line = slow_loop(peak_tflops=1e-6)
    assert line["train/mfu"] == pytest.approx((account.executed + head) / 4.0 / 1e6)
    assert line["train/flops_ratio_swiglu"] == pytest.approx(account.prefill / account.prefill_dense)
    assert line["train/flops_ratio_swiglu"] < 1 > line["train/flops_ratio_eq8"]


@pytest.mark.parametrize("trains_vision", [True, False])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_operations_are_those_of_the_plan(
    build_tiny_model, build_batch, trains_vision: bool, checkpointed: bool
) -> None:
    """Two dense samples of one length, counted by what ran and by `dpn plan`."""
    model = build_tiny_model("dense")
    model.model.vision_tower.requires_grad_(trains_vision)
    batch = build_batch(range(1, 2), text_only=False)
    out = model(**to_device(batch, torch.device("cpu"), torch.float32))
    passes = Passes.of(model, is_checkpointed=checkpointed)
    [text], tokens = out.routing.text_tokens, out.num_supervised_tokens

    planned = compute.training_flops(
        model.model_shape,
        [out.routing.ledger(0)],
        compute.SampleMeans(text, tokens),
        compute.PlannedPasses.of(trains_vision=trains_vision, checkpointed=checkpointed),
    )
    executed = step_flops([out.routing], passes).executed
    assert executed == pytest.approx(planned["vision"] + planned["projector"] + planned["decoder"])
    assert head_flops(model.model_shape.decoder, tokens, passes) == pytest.approx(planned["head"])


def test_copies_of_a_sample_are_counted_as_they_are_planned(build_tiny_model, build_batch) -> None:
    """Every scale of a picture trains the decoder and the head, one run of tower and projector serves them all."""
    model = build_tiny_model("m3")
    out = model(**to_device(build_batch(range(1, 2), text_only=False), torch.device("cpu"), torch.float32))
    settings, text = model.config.method_settings, out.routing.text_tokens[0]
    copies = find_method("m3").plan_training(settings, model.model_shape, text)
    assert [copy.dearest for copy in copies] == [
        replace(out.routing.ledger(number), num_images=1) for number in range(4)
    ]
    planned = compute.training_flops(
        model.model_shape,
        [copy.dearest for copy in copies],
        compute.SampleMeans(text, out.num_supervised_tokens),
        compute.PlannedPasses.of(trains_vision=True, checkpointed=False),
    )
    passes = Passes.of(model, is_checkpointed=False)
    executed = step_flops([out.routing], passes).executed
    assert executed == pytest.approx(planned["vision"] + planned["projector"] + planned["decoder"])


def test_frozen_parts_cost_what_flows_through_them(build_tiny_model) -> None:
    model = build_tiny_model("dense")
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    assert Passes.of(model, is_checkpointed=False) == Passes(vision=1, projector=3, decoder=2, head=2)
    layers = model.model.language_model.layers
    layers[: len(layers) // 2].requires_grad_(True)
    assert Passes.of(model, is_checkpointed=True).decoder == pytest.approx(3.5, abs=0.01)


def test_adapters_run_beside_frozen_weights(build_tiny_model) -> None:
    model = build_tiny_model("dense")
    model.model.language_model.requires_grad_(False)
    plain = Passes.of(model, is_checkpointed=False).decoder
    weights = sum(parameter.numel() for parameter in model.model.language_model.layers.parameters())
    model.model.language_model.lora_A = torch.nn.Parameter(torch.zeros(weights // 10))
    assert Passes.of(model, is_checkpointed=False).decoder == pytest.approx(plain + 0.3, abs=0.01)


def test_lines_say_what_the_routers_did(slow_loop, routed) -> None:
    line = slow_loop()
    first = routed.routing.records[0]
    assert line[f"router/keep_ratio_layer_{first.layer:02d}"] == first.keep_ratio
    pictures = [choice for choice in first.choices if choice != "-"]
    for expert in ("1x1", "1x2", "2x2"):
        share = pictures.count(expert) / len(pictures)
        assert line[f"routes/layer_{first.layer:02d}/{expert}"] == pytest.approx(share)
    probs = first.router_probs_BE.detach().double()
    entropy = -(probs * probs.log()).sum(dim=1).mean() / torch.log(torch.tensor(3.0))
    assert line[f"router/entropy_layer_{first.layer:02d}"] == pytest.approx(float(entropy))
    kept = [routed.routing.visual_tokens_per_stage(sample) for sample in range(4)]
    # Four stages of two layers each.
    assert line["router/keep_ratio"] == pytest.approx(sum(map(sum, kept)) / 4 / sum(row[0] for row in kept))


def test_the_history_is_told_by_site_expert_and_step() -> None:
    def line(step: int, share: float) -> dict[str, float]:
        shares = {"routes/layer_08/1x1": share, "routes/layer_08/2x2": 1 - share}
        ratios = {"router/keep_ratio": share, "router/keep_ratio_layer_08": share, "router/keep_ratio_layer_104": 1.0}
        return {"step": step, **ratios, **shares, "router/entropy_layer_08": 0.5}

    text_only = {"step": 30, "router/keep_ratio": 1.0, "router/keep_ratio_layer_08": 1.0}
    history = routing_history([line(10, 0.25), line(20, 1.0), text_only])
    assert history["steps"] == [10, 20, 30]
    assert history["keep_ratio"] == [0.25, 1.0, 1.0]
    near, far = history["sites"]
    assert near == {
        "after_layer": 8,
        "expert_shares": {"1x1": [0.25, 1.0, None], "2x2": [0.75, 0.0, None]},
        "entropy": [0.5, 0.5, None],
        "keep_ratio": [0.25, 1.0, 1.0],
    }
    assert (far["after_layer"], far["expert_shares"]) == (104, {})
    assert routing_history([{"step": 1, "train/loss": 1.0}]) is None
