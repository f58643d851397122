"""Settings and plan of MoE-LLaVA (arXiv 2401.15947; spec peer-methods 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad
from dpn_model.methods.patched_layers import ledger_of, resolve_layers, rows_of
from dpn_model.methods.settings import MethodSettings, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned


@dataclass(frozen=True)
class MoeLlavaSettings(MethodSettings):
    """Settings of MoE-LLaVA.

    Attributes:
        layers: with experts; the authors' "sparse" layout counts from 0 and takes the even ones.
        experts: of each; the first is the base's own FFN, the others begin as copies of it.
        top_k: experts that a token runs through.
        capacity: c; in training an expert takes ceil(tokens / experts * c * top_k) of a sample's tokens, first choices
            first, and what is beyond keeps its residual alone. None: nothing is dropped.
        evaluation_capacity: the same at inference, where the authors' 2.0 is not the default: nothing is dropped.
        balance_weight: of the loss that spreads tokens over experts.
        noise: Gumbel noise on the choices behind the first, in training, as the authors' expert library adds it.
    """

    name: ClassVar[str] = "moe_llava"
    layers: tuple[int, ...] | None = setting(None, "layers with experts; default every other one, from the first", ge=1)
    experts: int = setting(4, "FFNs of such a layer, the base's own among them", ge=2)
    top_k: int = setting(2, "experts per token", ge=1)
    capacity: float | None = setting(1.5, "what an expert takes in training, over an even share; null: all", gt=0)
    evaluation_capacity: float | None = setting(None, "the same at inference; null: all", gt=0)
    balance_weight: float = setting(0.01, "of the loss that spreads tokens over experts", ge=0)
    noise: bool = setting(False, "Gumbel noise on second choices, in training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k > self.experts:
            raise ValueError(f"top_k = {self.top_k}; allowed: 1 to {self.experts}, the number of experts")

    def resolve_layers(self, num_layers: int) -> tuple[int, ...]:
        """Layers with experts, 1-based. Raises ValueError where they do not fit the decoder."""
        return resolve_layers(self.layers, range(1, num_layers + 1, 2), num_layers)


def plan(settings: MoeLlavaSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same for every sample while nothing is dropped; at most all tokens crowd into the same experts."""
    layers, rows = settings.resolve_layers(shape.decoder.num_layers), rows_of(shape, text_tokens)
    router, most = shape.decoder.hidden_size * settings.experts, float(settings.top_k)
    macs = {"router": len(layers) * sum(rows) * router}
    load = replace(LayerLoad.whole(rows), ffn_factor=most, new_macs=router)
    capacity = settings.evaluation_capacity
    room = 1.0 if capacity is None else min(1.0, capacity * settings.top_k / settings.experts)
    fewest = replace(load, ffn_factor=room * most)
    cheapest, dearest = (ledger_of(shape, rows, dict.fromkeys(layers, one), macs) for one in (fewest, load))
    return Planned(cheapest, dearest)


def trains(settings: MoeLlavaSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """With the capacity of training."""
    return [plan(replace(settings, evaluation_capacity=settings.capacity), shape, text_tokens)]


SPEC = MethodSpec(
    settings=MoeLlavaSettings,
    label="MoE-LLaVA",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.moe_llava.patch:build",
    search={"experts": Dimension("experts", choices=(2, 4, 8)), "top_k": Dimension("top_k", choices=(1, 2))},
    needs_training="stage 2",
)
