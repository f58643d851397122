"""The cases that two ranks train in one launch, and what each rank reads at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpn_model import DpnForConditionalGeneration, Method, RoutingLoss
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.loop import IGNORE_INDEX
from dpn_platform.training.lora import attach_adapters
from tests.training.tiny import tiny_batch, tiny_model, tiny_processor

WORLD_SIZE, GLOBAL_BATCH = 2, 8
#: a strong hinge that no draw and no dead zone disturbs
METHOD = {"selection": "top1", "routing_loss": RoutingLoss(weight=2.0, value="expectation")}
SGD = {"optimizer": "sgd", "lr": 0.05, "micro_batch_size": 2}
ADAMW = {"lr": 1e-3, "router_lr": 1e-2, "weight_decay": 0.1}
FIRST, LAST = ("1x1", "1x1", "1x1"), ("2x2", "1x2", "2x2")


@dataclass(frozen=True)
class Case:
    """What is trained, and how samples are dealt.

    Attributes:
        train: of `TrainConfig`, beyond what all cases share.
        method: of `Method`, beyond `METHOD`; with a name, all of it.
        text_only: per rank: whether its samples are text only; None: every third is.
        unanswered: per rank: whether `max_length` has cut all its answers.
        routes: forced on each rank.
        base: of `tiny.tiny_model`.
        boxes: per rank: whether its pictures have some.
        tied: the embedding is the head: one weight that two modules run with.
    """

    train: dict[str, Any]
    method: dict[str, Any] = field(default_factory=dict)
    text_only: tuple[bool | None, ...] = (None, None)
    unanswered: tuple[bool, ...] = (False, False)
    routes: tuple[tuple[str, ...] | None, ...] = (None, None)
    steps: int = 2
    base: str = "llava"
    boxes: tuple[bool, ...] = (False, False)
    tied: bool = False

    @property
    def config(self) -> TrainConfig:
        """The recipe, on two workers."""
        shared = {"global_batch_size": GLOBAL_BATCH, "num_workers": WORLD_SIZE, "activation_checkpointing": True}
        return TrainConfig(**{"steps": self.steps, **shared, **self.train})

    def plain_model(self) -> DpnForConditionalGeneration:
        """Without adapters."""
        method = Method(**(self.method if "name" in self.method else {**METHOD, **self.method}))
        # LLaVA-HR's tower has adapters after its first three layers.
        tower_layers = 2 if self.base == "llava" else None
        return tiny_model(method, base=self.base, num_layers=4, tower_layers=tower_layers, tied=self.tied)

    def build(self) -> DpnForConditionalGeneration:
        """The model before training, the same in every process."""
        model = self.plain_model()
        if self.config.lora is not None:
            attach_adapters(model, self.config.lora)
        return model

    def micro_batches(self, rank: int) -> list[dict[str, Any]]:
        """Of one rank, for all steps."""
        train, processor = self.config, tiny_processor(self.base)
        batches = []
        for step in range(train.steps):
            for number in range(train.gradient_accumulation_steps):
                first = step * GLOBAL_BATCH + (number * WORLD_SIZE + rank) * train.micro_batch_size
                samples = range(first, first + train.micro_batch_size)
                batches.append(tiny_batch(processor, samples, text_only=self.text_only[rank], boxes=self.boxes[rank]))
                if self.unanswered[rank]:
                    batches[-1]["labels"].fill_(IGNORE_INDEX)
        return batches


def _apart(stage: int, method: dict[str, Any] | None = None, **train: Any) -> Case:
    """One rank reads texts, the other pictures."""
    return Case({**SGD, **train, "zero_stage": stage}, method or {"pool": "conv"}, text_only=(True, False))


def _routed(stage: int) -> Case:
    """No expert of one rank has weights, all of the other's have."""
    return Case({**SGD, "zero_stage": stage}, {"pool": "conv"}, text_only=(False, False), routes=(FIRST, LAST))


#: losses against a plain loop of another make
PARITY = {
    f"zero{stage}-accumulate{accumulation}": Case(
        {**ADAMW, "zero_stage": stage, "micro_batch_size": GLOBAL_BATCH // WORLD_SIZE // accumulation}, steps=3
    )
    for stage in (1, 2, 3)
    for accumulation in (1, 4)
}
#: weights against a single process
APART = {
    "zero2-apart": _apart(2),
    "zero3-apart": _apart(3),
    "zero2-routes": _routed(2),
    "zero3-routes": _routed(3),
    "zero3-unanswered": Case({**SGD, "zero_stage": 3}, text_only=(False, False), unanswered=(True, False)),
    "zero2-offloaded": _apart(2, offload="optimizer", optimizer="adamw", lr=1e-3),
    "zero3-offloaded": _apart(3, {"router": "linear"}, offload="all"),
    "zero3-projector": _apart(3, lr=0.0, vision_lr=0.0, projector_lr=0.05, router_lr=0.05),
    "zero3-lora": _apart(3, vision_lr=0.0, lora={"rank": 4, "alpha": 8, "dropout": 0.0}),
    "zero2-tied": Case({**SGD, "zero_stage": 2}, text_only=(True, False), tied=True),
    "zero3-tied": Case({**SGD, "zero_stage": 3}, text_only=(True, False), tied=True),
    # As many tokens as patches: samples are those of the other cases.
    "zero3-convolutions": _apart(3, {"name": "c_abstractor", "queries": 64, "depth": 1}),
    "zero3-queries": _apart(3, {"name": "mqt", "queries": 64, "keep": 9, "elastic": False}),
    "zero3-two-towers": Case({**SGD, "zero_stage": 3}, text_only=(True, False), base="llava_hr"),
    "zero2-objects": Case({**SGD, "zero_stage": 2}, text_only=(True, False), base="chatrex", boxes=(False, True)),
    "zero3-objects": Case({**SGD, "zero_stage": 3}, text_only=(False, False), base="chatrex", boxes=(False, True)),
}
CASES = PARITY | APART
