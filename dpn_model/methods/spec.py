"""MethodSpec: what the platform knows of a method before any tensor exists. Nothing here imports torch.

A method is one `MethodSpec`. Configuration, plans, sweeps, controls, reports and the model read it from the registry;
none of them names a method.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import PROJECTOR, Ledger
from dpn_model.methods.settings import MethodSettings

if TYPE_CHECKING:
    from dpn_model.methods.contract import Host, Parts

Training = Literal["none", "stage 2", "stage 1+2"]


class Planned(NamedTuple):
    """Ledgers of one picture with its question: the cheapest route a method can take, and the dearest."""

    cheapest: Ledger
    dearest: Ledger


@dataclass(frozen=True)
class Dimension:
    """What a sweep may vary.

    Attributes:
        setting: dotted key of the method's settings.
        low, high: of a range; None of a choice.
        is_log: the range is searched on a logarithmic scale.
        choices: values, where it is no range.
        is_whole: the range has whole numbers.
        step: between the values of a range; None: any.
        levels: values that a grid takes of a range.
    """

    setting: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[Any, ...] = ()
    is_whole: bool = False
    step: float | None = None
    levels: int | None = None


@dataclass(frozen=True)
class MethodSpec:
    """One method.

    Attributes:
        settings: its frozen dataclass; `settings.name` is how it is written in recipes.
        label: as figures and tables call it.
        plan: (settings, shape, text tokens) -> what a sample with one picture will run; raises ValueError where
            settings do not fit the base. Told without weights.
        parts: builds what is attached to a base: a function, or "module:function", which is imported when it is
            needed, so that a spec needs no torch. None: nothing is attached.
        search: by name, what a sweep varies unless it says otherwise.
        shorthand: settings of a control's short name ("static_2x2"); None where it is not this method's.
        needs_training: to be worth comparing: nothing (any checkpoint will do), the instruction stage, or both stages.
        is_query_aware: what it keeps depends on the question.
        chooses: whether every sample keeps what it needs ("per sample") or all alike ("fixed").
        is_random: its settings have a `seed`, and results depend on it.
        needs_cls_attention: fits only towers with a class token.
        needs_router_token: prompts carry `<ROUTER>`.
        has_dial: one checkpoint serves many budgets (`set_budget`).
        routes: (settings, shape) -> every route that all samples can be made to take (`set_route`); None: there are
            none.
        walks: (settings, shape, text tokens) -> the decoder's multiply-accumulates for one sample on all of these at
            once; None: they are run one by one.
        resizes: it shows the tower pictures of fewer pixels, which any model can be asked for.
        budget: the one setting that its cost rises with, for whoever wants it at a given cost (`budgets.py`): a range,
            or choices from the cheapest to the dearest. None: its cost is what it is.
        control: settings with which every study at budgets carries it as a control; None: it is no such control.
        trains: (settings, shape, text tokens) -> what a sample with one picture runs in training, where that is not the
            plan: one entry for every time it goes through the decoder, the first with what is spent once.
        learns: (settings, shape, text tokens) -> how many samples it looks at behind the training, and the decoder's
            multiply-accumulates for one of them.
    """

    settings: type[MethodSettings]
    label: str
    plan: Callable[[Any, ModelShape, int], Planned]
    parts: Callable[[Any, Host], Parts] | str | None = None
    search: Mapping[str, Dimension] = field(default_factory=dict)
    shorthand: Callable[[str], Mapping[str, Any] | None] = lambda name: None
    needs_training: Training = "none"
    is_query_aware: bool = False
    chooses: Literal["fixed", "per sample"] = "fixed"
    is_random: bool = False
    needs_cls_attention: bool = False
    needs_router_token: bool = False
    has_dial: bool = False
    routes: Callable[[Any, ModelShape], Sequence[tuple[str, ...]]] | None = None
    walks: Callable[[Any, ModelShape, int], int] | None = None
    resizes: bool = False
    budget: Dimension | None = None
    control: Mapping[str, Any] | None = None
    trains: Callable[[Any, ModelShape, int], Sequence[Planned]] | None = None
    learns: Callable[[Any, ModelShape, int], tuple[int, int]] | None = None

    @property
    def name(self) -> str:
        """As it is registered."""
        return self.settings.name

    @property
    def has_routes(self) -> bool:
        """Whether it chooses for every sample by what it has learned, so that routes tell something."""
        return self.chooses == "per sample" and not self.is_random

    @property
    def takes_routes(self) -> bool:
        """Whether every sample can be made to take one route."""
        return self.routes is not None

    @property
    def reduces(self) -> bool:
        """Whether it changes anything: `dense` does not."""
        return self.parts is not None

    def plan_training(self, settings: MethodSettings, shape: ModelShape, text_tokens: int) -> Sequence[Planned]:
        """What a sample runs in training: one entry for every time it goes through the decoder.

        Raises:
            ValueError: settings that do not fit the base.
        """
        if self.trains is None:
            return (self.plan(settings, shape, text_tokens),)
        return self.trains(settings, shape, text_tokens)

    def check(self, base: Any) -> None:
        """Raise ValueError where a base's configuration lacks what the method needs of it."""
        kind = getattr(getattr(base, "vision_config", None), "model_type", None)
        if self.needs_cls_attention and (base.model_type, kind) != ("llava", "clip_vision_model"):
            raise ValueError(
                f"name = {self.name}: it looks at a class token's attention, which the tower of {base.model_type} does "
                "not show; allowed: bases of kind llava with a CLIP tower"
            )

    def build(self, settings: MethodSettings, host: Host) -> Parts:
        """The parts for one base.

        Raises:
            ValueError: settings that do not fit the base.
        """
        build = self.parts
        if build is None:
            nothing: Parts = importlib.import_module("dpn_model.methods.contract").Parts()
            return nothing
        if isinstance(build, str):
            module, _, name = build.partition(":")
            build = getattr(importlib.import_module(module), name)
        made: Parts = build(settings, host)
        return made


def image_rows(shape: ModelShape) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width); where each has its own grid, as many as LLaVA-1.5's."""
    return shape.image_grid or ASSUMED_GRID


#: of a picture where every one has its own grid
ASSUMED_GRID = (24, 24)


def plan_in_front(shape: ModelShape, text_tokens: int, tokens: int, **macs: int) -> Planned:
    """The plan of a method that gives the decoder `tokens` visual tokens from its first layer on; `macs` by tag."""
    layers, before = shape.decoder.num_layers, math.prod(image_rows(shape))
    ledger = Ledger.of_stages(layers, (0,), (before, tokens), text_tokens, num_images=1, macs=macs)
    return Planned(ledger, ledger)


def projector_macs(shape: ModelShape, tokens: int) -> dict[str, int]:
    """What the base's projector spends on a picture's `tokens`, by tag, where a selector stands in front of it."""
    if shape.projector_macs is None or shape.image_grid is None:
        return {}
    return {PROJECTOR: shape.projector_macs // math.prod(shape.image_grid) * tokens}


def plan_of_stages(
    settings: Any, shape: ModelShape, text_tokens: int, tokens_after: Callable[[int, bool], int]
) -> Planned:
    """The plan of a method that takes visual tokens away at its sites, count by count.

    Args:
        settings: with `resolve_sites`.
        shape: of the base.
        text_tokens: of the sample.
        tokens_after: (tokens before a site, cheapest or dearest) -> tokens after it.
    """
    layers = shape.decoder.num_layers
    sites = settings.resolve_sites(layers)
    height, width = image_rows(shape)
    ledgers = []
    for is_cheapest in (True, False):
        tokens = [height * width]
        for _ in sites:
            tokens.append(tokens_after(tokens[-1], is_cheapest))
        ledgers.append(Ledger.of_stages(layers, sites, tokens, text_tokens, num_images=1))
    return Planned(*ledgers)


def plan_of_counts(
    shape: ModelShape, text_tokens: int, counts: Mapping[int, int], looking: Callable[[int], int] = lambda rows: 0
) -> Planned:
    """The plan of a method that leaves every picture the same number of tokens behind each site.

    Args:
        shape: of the base.
        text_tokens: of the sample.
        counts: by site, ascending.
        looking: (rows of the sample at a site) -> multiply-accumulates of what the probe is asked for there.
    """
    tokens = [math.prod(image_rows(shape)), *counts.values()]
    spent = sum(looking(visual + text_tokens) for visual in tokens[:-1])
    macs = {"probe": spent} if spent else {}
    ledger = Ledger.of_stages(shape.decoder.num_layers, list(counts), tokens, text_tokens, num_images=1, macs=macs)
    return Planned(ledger, ledger)
