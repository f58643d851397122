"""Toy methods, one for each part of the contract: small enough to check by hand, and each a whole method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import PROJECTOR, LayerLoad, Ledger, Rows
from dpn_model.methods.contract import Host, LayerPatch, LossInputs, Parts, Projector, Selector, TokenReducer
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.probe import ATTENTION, EMBEDDINGS, NEXT_LAYER, Probe, VisionProbe, level, tower_layer
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import MethodSettings, SitedSettings, setting
from dpn_model.methods.spec import MethodSpec, Planned, image_rows, plan_in_front, plan_of_stages
from dpn_model.packing import ImageSpan, PackedSequence


@dataclass(frozen=True)
class RankSettings(SitedSettings):
    name: ClassVar[str] = "toy_rank"
    keep: float = setting(0.5, "share kept", gt=0, le=1)
    look: str = setting(ATTENTION, "attention or next_layer")


class Rank(TokenReducer):
    """Keeps what the rows that ask look at most."""

    def __init__(self, layer: int, settings: RankSettings) -> None:
        super().__init__(layer)
        self.settings = settings
        self.looks = frozenset({settings.look})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        weights = probe.attention() if self.settings.look == ATTENTION else probe.next_attention()
        tokens_in, rows = state.visual_tokens(), []
        for image in state.images:
            start = image.start - state.starts[image.sample]
            score = weights[image.sample].mean(dim=(0, 1))[start : start + image.num_tokens]
            kept = score.topk(max(1, round(image.num_tokens * self.settings.keep))).indices.sort().values
            rows.append(ImageRows.kept(kept.numpy()))
        after, _ = replace_image_rows(state, rows, keep_positions=self.settings.positions == "keep")
        told = tuple(str(count) if count else "-" for count in after.visual_tokens())
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), told)


@dataclass(frozen=True)
class MergeSettings(SitedSettings):
    name: ClassVar[str] = "toy_merge"


class Merge(TokenReducer):
    """Neighbours in reading order become their weighted mean, by mass; the words' mean embedding is looked at."""

    looks = frozenset({EMBEDDINGS})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        assert probe.embeddings().shape == state.hidden_TD.shape
        tokens_in, rows = state.visual_tokens(), []
        for image in state.images:
            pairs = np.arange(image.num_tokens // 2 * 2).reshape(-1, 2)
            mass = torch.ones(image.num_tokens) if state.weight_T is None else state.weight_T[image.start :]
            weights = mass[torch.from_numpy(pairs)]
            rows.append(ImageRows.merged(pairs, weights / weights.sum(dim=1, keepdim=True)))
        after, _ = replace_image_rows(state, rows)
        choices = tuple("merge" if tokens else "-" for tokens in tokens_in)
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), choices)


@dataclass(frozen=True)
class SelectSettings(MethodSettings):
    name: ClassVar[str] = "toy_select"
    keep: int = setting(16, "patches kept", ge=1)
    before: bool = setting(True, "in front of the projector")


class Select(Selector):
    """The patches that the class token looks at most, and one that sums the others by its attention (as PruMerge)."""

    looks = frozenset({tower_layer(-2)})

    def __init__(self, settings: SelectSettings) -> None:
        super().__init__()
        self.keep, self.before_projector = settings.keep, settings.before

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        attention_IV = probe.cls_attention().sum(dim=1)
        if len(tokens_VD) and probe.pictures and images[0].sample >= 0 and not self.training:
            assert {probe.text_embeddings(image.sample).shape[1] for image in images} == {96}
        found = []
        for score_V in attention_IV:
            kept = score_V.topk(self.keep).indices.sort().values.numpy()
            others = np.setdiff1d(np.arange(len(score_V)), kept)
            windows = np.full((self.keep + 1, len(others)), -1)
            windows[:-1, 0], windows[-1] = kept, others
            weights = torch.zeros(windows.shape)
            weights[:-1, 0], weights[-1] = 1.0, score_V[torch.from_numpy(others)]
            found.append(ImageRows.merged(windows, weights))
        return found

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        return 7


@dataclass(frozen=True)
class ShuffleSettings(MethodSettings):
    name: ClassVar[str] = "toy_projector"


class Shuffle(Projector):
    """2x2 patches of two levels side by side, through one matrix: a quarter of the tokens."""

    levels = (2, 3)

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(4 * 2 * vision_size, hidden_size)

    def reset_parameters(self) -> None:
        self.matrix.reset_parameters()

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // 2, width // 2

    def macs(self, height: int, width: int) -> int:
        return math.prod(self.grid(height, width)) * self.matrix.in_features * self.matrix.out_features

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        grid = features_IPC.unflatten(1, (height // 2, 2, width // 2, 2))
        return self.matrix(grid.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2))


@dataclass(frozen=True)
class SkipSettings(MethodSettings):
    name: ClassVar[str] = "toy_skip"
    layer: int = setting(3, "which layer", ge=1)
    by: str = setting("sample", "sample: those with pictures skip it; token: every second visual token does; all")


class Skip(LayerPatch):
    """Skips one layer for some samples or tokens; behind a cache, for those samples that own no key in it."""

    def __init__(self, settings: SkipSettings) -> None:
        super().__init__(settings.layer)
        self.by = settings.by

    def forward(self, call: LayerCall) -> tuple[Tensor, Any]:
        if call.past is not None:
            running = [sample for sample, owned in enumerate(call.past) if owned]
            rows = call.rows_of(running)
        elif self.by == "token":
            rows = np.flatnonzero(~call.is_visual_T | (np.cumsum(call.is_visual_T) % 2 == 1))
        else:
            assert call.state is not None
            pictured = {image.sample for image in call.state.images} if self.by == "sample" else set(range(99))
            rows = call.rows_of([sample for sample in range(len(call.lengths)) if sample not in pictured])
        return call.merged(rows, call.run(rows)), call.record()


@dataclass(frozen=True)
class ExpertSettings(MethodSettings):
    name: ClassVar[str] = "toy_ffn"


class Expert(LayerPatch):
    """The dense FFN plus a small one of its own."""

    replaces_ffn = True

    def __init__(self, layer: int, hidden_size: int) -> None:
        super().__init__(layer)
        self.own = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, call: LayerCall) -> tuple[Tensor, Any]:
        out = call.run()
        extra = tuple(self.own.weight.numel() * length for length in call.lengths)
        return out, call.record(macs={"experts": extra})

    def ffn(self, hidden: Tensor, dense: Any) -> Tensor:
        return dense(hidden) + self.own(hidden)


class Magnitude:
    """A term that wants the last hidden states small."""

    name, weight, joins_language_loss = "magnitude", 0.5, False

    def __call__(self, seen: LossInputs) -> Tensor:
        return seen.final.hidden_TD.square().mean()


def _rank(settings: RankSettings, host: Host) -> Parts:
    return Parts({site: Rank(site, settings) for site in settings.resolve_sites(host.num_layers)})


def _merge(settings: MergeSettings, host: Host) -> Parts:
    return Parts({site: Merge(site) for site in settings.resolve_sites(host.num_layers)}, losses=(Magnitude(),))


def _experts(settings: ExpertSettings, host: Host) -> Parts:
    return Parts(patches={layer: Expert(layer, host.hidden_size) for layer in (2, 5)})


def _expert_plan(settings: ExpertSettings, shape: ModelShape, text: int) -> Planned:
    visual = math.prod(image_rows(shape))
    return plan_in_front(shape, text, visual, experts=2 * shape.decoder.hidden_size**2 * (visual + text))


def _select_plan(settings: SelectSettings, shape: ModelShape, text: int) -> Planned:
    per_token = (shape.projector_macs or 0) // math.prod(image_rows(shape))
    projected = {PROJECTOR: per_token * (settings.keep + 1)} if settings.before else {}
    return plan_in_front(shape, text, settings.keep + 1, selector=7, **projected)


def _shuffle_plan(settings: ShuffleSettings, shape: ModelShape, text: int) -> Planned:
    tokens = math.prod(image_rows(shape)) // 4
    width = 4 * 2 * shape.tower.hidden_size if shape.tower else 0
    return plan_in_front(shape, text, tokens, **{PROJECTOR: tokens * width * shape.decoder.hidden_size})


def _skip_plan(settings: SkipSettings, shape: ModelShape, text: int) -> Planned:
    rows = Rows(math.prod(image_rows(shape)), text)
    nothing = Rows(0, 0)
    loads = [LayerLoad.whole(rows) for _ in range(shape.decoder.num_layers)]
    dear = Ledger.of_layers(rows, loads, num_images=1)
    loads[settings.layer - 1] = LayerLoad(rows, nothing, nothing, nothing, runs_new=False)
    return Planned(Ledger.of_layers(rows, loads, num_images=1), dear)


SPECS = [
    MethodSpec(
        RankSettings,
        "toy ranker",
        lambda settings, shape, text: plan_of_stages(
            settings, shape, text, lambda n, _: max(1, round(n * settings.keep))
        ),
        _rank,
        is_query_aware=True,
    ),
    MethodSpec(
        MergeSettings, "toy merger", lambda s, shape, text: plan_of_stages(s, shape, text, lambda n, _: n // 2), _merge
    ),
    MethodSpec(
        SelectSettings,
        "toy selector",
        _select_plan,
        lambda settings, host: Parts(selector=Select(settings)),
        needs_cls_attention=True,
    ),
    MethodSpec(
        ShuffleSettings,
        "toy projector",
        _shuffle_plan,
        lambda settings, host: Parts(projector=Shuffle(host.vision_size or 1, host.hidden_size)),
        needs_training="stage 1+2",
    ),
    MethodSpec(
        SkipSettings,
        "toy skipper",
        _skip_plan,
        lambda settings, host: Parts(patches={settings.layer: Skip(settings)}),
        chooses="per sample",
    ),
    MethodSpec(ExpertSettings, "toy experts", _expert_plan, _experts, needs_training="stage 2"),
]
TOYS = {spec.name: spec for spec in SPECS}
LOOKS = (ATTENTION, NEXT_LAYER, level(2))
