"""Settings and plan of RoE-LLaVA (Routing Experts, arXiv 2407.14093; spec peer-methods 7.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad, Rows
from dpn_model.methods.patched_layers import ledger_of, resolve_layers, rows_of
from dpn_model.methods.settings import MethodSettings, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned


@dataclass(frozen=True)
class RoeLlavaSettings(MethodSettings):
    """Settings of RoE-LLaVA.

    Attributes:
        layers: that may be skipped; the authors' are all.
        adapter_width: r of the adapter that stands in for a skipped layer; the authors' 1024 are a quarter of 4096.
        target_skip: s, share of layers that samples are to skip; the loss pushes up to it, never beyond.
        sparsity_weight: of that loss.
        tau: τ that the soft mix of training begins with.
        tau_decay, bias_decay: of τ and of the routers' head start for running, every 0.5% of the training.
        random_until, bias_until: shares of the training with random choices, and with the head start.
    """

    name: ClassVar[str] = "roe_llava"
    layers: tuple[int, ...] | None = setting(None, "layers that may be skipped; default all", ge=1)
    adapter_width: int | None = setting(
        None, "of the adapter in a skipped layer's place; default hidden size / 4", ge=1
    )
    target_skip: float = setting(0.3, "share of layers that samples are to skip", gt=0, le=0.5)
    sparsity_weight: float = setting(1.0, "of the loss that asks for it", ge=0)
    tau: float = setting(10.0, "temperature of the mix of both paths, at its beginning", gt=0)
    tau_decay: float = setting(0.95, "of that temperature, every 0.5% of the training", gt=0, le=1)
    bias_decay: float = setting(0.85, "of the head start for running, every 0.5% of the training", gt=0, le=1)
    random_until: float = setting(0.3, "share of the training in which layers are skipped at random", ge=0, le=1)
    bias_until: float = setting(0.5, "share of the training up to which running has a head start", ge=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias_until < self.random_until:
            raise ValueError(f"bias_until = {self.bias_until}; allowed: {self.random_until} (random_until) to 1")

    def resolve_layers(self, num_layers: int) -> tuple[int, ...]:
        """Layers that may be skipped, 1-based. Raises ValueError where they do not fit the decoder."""
        return resolve_layers(self.layers, range(1, num_layers + 1), num_layers)

    def resolve_width(self, hidden_size: int) -> int:
        """r."""
        return max(1, hidden_size // 4) if self.adapter_width is None else self.adapter_width


def plan(settings: RoeLlavaSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """A sample is free in every layer: from all skipped to none; `target_skip` is what training asks for on average."""
    layers, rows = settings.resolve_layers(shape.decoder.num_layers), rows_of(shape, text_tokens)
    width, nothing = shape.decoder.hidden_size, Rows(0, 0)
    router = len(layers) * router_macs(width)
    per_row = adapter_macs(width, settings.resolve_width(width))
    adapters = len(layers) * sum(rows) * per_row
    skipped = LayerLoad(rows, nothing, nothing, nothing, runs_new=False, new_macs=per_row)
    return Planned(
        ledger_of(shape, rows, dict.fromkeys(layers, skipped), {"router": router, "adapter": adapters}),
        ledger_of(shape, rows, {}, {"router": router, "adapter": 0}),
    )


def trains(settings: RoeLlavaSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """Both paths of every layer."""
    skipped, run = plan(settings, shape, text_tokens)
    both = replace(run, macs=skipped.macs)
    return [Planned(both, both)]


def router_macs(hidden_size: int) -> int:
    """One decision: two vectors to two logits."""
    return 2 * hidden_size * 2


def adapter_macs(hidden_size: int, width: int) -> int:
    """One row through an adapter."""
    return 2 * hidden_size * width


SPEC = MethodSpec(
    settings=RoeLlavaSettings,
    label="RoE-LLaVA",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.roe_llava.patch:build",
    search={"target_skip": Dimension("target_skip", 0.1, 0.4)},
    needs_training="stage 2",
    is_query_aware=True,
    chooses="per sample",
)
