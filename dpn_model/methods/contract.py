"""The parts a method may be made of, and the records of what they did.

A method is a `MethodSpec` (`spec.py`, no torch) whose `build` gives `Parts`: a reducer after a layer, a selector
between tower and decoder, a projector, a patch on a layer, terms of the loss. Cost, routing statistics, losses and
curves all read the records.

Shape letters: B samples, T packed tokens, D model width, E experts, V visual tokens, R supervised tokens, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.probe import Probe, VisionProbe, is_of_tower
from dpn_model.methods.records import PatchRecord, ReductionRecord
from dpn_model.methods.rows import ImageRows
from dpn_model.packing import ImageSpan, PackedSequence


@dataclass(frozen=True)
class Host:
    """The base that parts are attached to.

    Attributes:
        num_layers, hidden_size: of the decoder.
        base: the base's configuration.
        image_grid: visual tokens of one picture as (height, width); None where each has its own.
        vision_size: width of the tower's features; None where nobody has said.
        shape: what plans are made from; a part that checks itself against it refuses what its plan refuses.
        layers: of the decoder, with the weights they have now.
    """

    num_layers: int
    hidden_size: int
    base: Any = None
    image_grid: tuple[int, int] | None = None
    vision_size: int | None = None
    shape: ModelShape | None = None
    layers: Sequence[nn.Module] = ()

    def ffn_copy(self, layer: int) -> nn.Module:
        """A copy of the FFN of a layer (1-based); what a method put in the place of its `forward` is not copied."""
        ffn: Any = self.layers[layer - 1].mlp
        copy: nn.Module = deepcopy(ffn, {id(ffn.__dict__.get("forward")): None})
        copy.__dict__.pop("forward", None)
        return copy

    def copy_layers(self, first: int, count: int) -> nn.ModuleList:
        """Copies of the `count` layers behind layer `first` (0: from the first on), for `Probe.run`; likewise."""
        copies = nn.ModuleList(self.layers[first : first + count])
        patched = {id(vars(getattr(layer, "mlp", layer)).get("forward")): None for layer in copies}
        copies = deepcopy(copies, patched)
        for layer in copies:
            vars(getattr(layer, "mlp", layer)).pop("forward", None)
        return copies


class Part(nn.Module):
    """What every part is.

    In training, every module of a part that has weights runs once a call, in one order, and gets a gradient, whatever
    the batch holds: sharded training (ZeRO-3) gathers weights where a module runs, on all ranks together, and a rank
    that leaves one out stops the others for good. What has nothing to do runs on no rows (see `joined`).
    """

    #: whether prompts must carry the `<ROUTER>` token
    needs_router_token = False
    #: whether every module runs in evaluation too, for ranks that evaluate a sharded model together
    joins_ranks = False
    #: what it may ask the probe for; only this is kept while layers and tower run ("attention", or the vision probe's)
    looks: frozenset[str] = frozenset()
    #: share of the training that is done; None where nobody says, as outside the training loop
    progress: float | None = None

    @property
    def needs_sample_keys(self) -> bool:
        """Whether the next batch must carry `sample_keys`: something is drawn at inference."""
        return False


class Rider(nn.Module):
    """A row beside every sample with a picture that runs the layers up to a reducer and sees the prompt.

    It stands behind the prompt that the pictures belong to, sees no answer, and is seen by nobody: no row of the batch,
    no cache, no length knows of it. Its attention in the last layer is what the reducer may ask for
    (`Probe.rider_attention`); its cost is the reducer's to bill (`probe_cost.rider_macs`).
    """

    def forward(self) -> Tensor:
        """float[L, D]: with what the row enters the first layer, and what is added in front of every further one."""
        raise NotImplementedError


class TokenReducer(Part):
    """Looks at the batch after a layer (0: before the first) and returns a smaller one.

    Text and router tokens are never dropped.

    Attributes:
        rider: of a method's first reducer, what rides up to it; None: nothing does.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.rider: Rider | None = None

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Reduce the visual tokens of `state` after layer `self.layer`."""
        raise NotImplementedError


class ChoosingReducer(TokenReducer):
    """A reducer that gives every sample one of a few experts, and can give it all of them, side by side.

    Attributes:
        expert_names: as in routes.
    """

    expert_names: tuple[str, ...]

    def read(self, state: PackedSequence) -> Tensor:
        """float[B', D]: what it decides by, of the samples with a picture."""
        raise NotImplementedError

    def branched(self, state: PackedSequence) -> tuple[PackedSequence, ReductionRecord, np.ndarray]:
        """Every sample once with each expert: all of them with the first, then all with the second ...

        Where an expert is not feasible, its copy takes another one, and is not to be used.

        Returns:
            What `forward` gives, of E times the samples, and bool[E, B]: which of them are what they should be.
        """
        raise NotImplementedError


class Selector(Part):
    """Chooses or merges visual tokens between the tower and the decoder.

    Attributes:
        before_projector: whether it works on the tower's features, so that only what it keeps is projected; else on
            the projected tokens. Either way the probe shows the text's embeddings.
        positions: as in `SitedSettings`.
    """

    before_projector = False
    positions = "contiguous"

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """For each picture (its span gives sample and grid, `start` its first row of `tokens_VD`), the rows after."""
        raise NotImplementedError

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """Multiply-accumulates spent on one picture; what the probe was asked for is billed by the probe."""
        return 0

    def describe(self, image: ImageSpan, rows: ImageRows) -> str:
        """What was chosen of one picture, for routes and tables."""
        return f"{len(rows.windows)}"


class Resizer(Part):
    """Gives the tower other pictures than the processor made, of fewer pixels and so of fewer patches.

    Placeholders stay those of the pictures as they came; behind the tower the packed batch loses what is too many.
    """

    def forward(self, picture: Tensor) -> Tensor:
        """float[3, height, width], normalised, to float[3, height after, width after]."""
        raise NotImplementedError


class Projector(Part):
    """Visual features to the decoder's tokens, with a grid of its own. It takes the place of the base's projector.

    Attributes:
        levels: hidden states of the tower that it reads, counted as transformers does; () for the base's own choice.
    """

    levels: tuple[int, ...] = ()

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tokens of a picture of height x width patches; placeholders and positions follow it."""
        raise NotImplementedError

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of one picture of height x width patches."""
        raise NotImplementedError

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, height * width, C] (levels side by side in C) to float[I, grid, D], row-major."""
        raise NotImplementedError


class LayerPatch(Part):
    """Runs, skips or replaces one layer, or its FFN, for some samples or tokens.

    It does so in prefill, in training and behind a cache alike: `call.past` tells the last apart, and how many rows of
    every sample own keys in this layer.
    """

    #: whether `ffn` stands in place of the layer's own
    replaces_ffn = False

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, call: LayerCall) -> tuple[Tensor, PatchRecord | None]:
        """float[T, D] behind the layer, and what ran (behind a cache nobody reads it). Default: the layer as it is."""
        return call.run(), call.record()

    def ffn(self, hidden: Tensor, dense: Any) -> Tensor:
        """float[1, T, D] to the same, in place of the FFN `dense`, which may be called on any rows."""
        raise NotImplementedError


@dataclass(frozen=True)
class LossInputs:
    """What a term of the loss may look at.

    Attributes:
        reductions, patches: records of the pass, in order of depth.
        losses_R: cross entropy per supervised token.
        sample_R: int64[R], which sample each of them is of.
        final: the batch behind the final norm; where samples were copied (`Parts.copies`), all copies, as in the
            records.
        logits_RC: float32, of every supervised token, with gradient.
        losses_of: cross entropy per supervised token of a batch with the rows of the first layers, as the decoder's
            norm and head read it: of what leaves the decoder early (`Probe.run`).
    """

    reductions: Sequence[ReductionRecord]
    patches: Sequence[PatchRecord]
    losses_R: Tensor
    sample_R: Tensor
    final: PackedSequence
    logits_RC: Tensor
    losses_of: Callable[[PackedSequence], Tensor]


class LossTerm(Protocol):
    """What a method adds to the training loss.

    Attributes:
        name: in logs, `train/loss_<name>`.
        joins_language_loss: the term belongs to `loss_lm`: whoever weights that weights it, and it is not logged alone.
    """

    name: str
    joins_language_loss: bool

    @property
    def weight(self) -> float:
        """λ, now: the loss is loss_lm + sum of weight * term."""

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """A scalar; None where there was nothing to judge."""


class Steering(Protocol):
    """What a user may decide in the place of a method that chooses: a fixed route, or a budget (see `set_budget`)."""

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force one choice per site for every sample; None: the method decides again."""

    def turned(self, dial: Mapping[str, Any], flops_ratio: float | None) -> Mapping[str, Any]:
        """A calibrated dial, turned to a ratio."""

    def set_dial(self, dial: Mapping[str, Any] | None, decoder: Any) -> None:
        """Take a calibrated dial as it stands (None: forget it); `decoder` is its `DecoderShape`."""


class Lesson(Protocol):
    """What a method learns once the training is over and the base stands still.

    Attributes:
        num_samples: training samples that it wants to see.
    """

    num_samples: int

    def look(self, model: Any, batches: Iterable[Mapping[str, Any]]) -> Any:
        """What one worker saw of its share of the samples; it can be pickled.

        Args:
            model: what was trained, whole on this device, in evaluation.
            batches: as `forward` takes them, with labels.
        """

    def learn(self, model: Any, seen: Sequence[Any]) -> Mapping[str, float]:
        """Learn from what all workers saw; every worker does, with equal draws. Returns figures, `lesson/<name>`.

        Raises:
            ValueError: there was nothing to learn from.
        """


@dataclass
class Parts:
    """What a method attaches to a base.

    Attributes:
        reducers: by 1-based layer after which they act; 0: before the first.
        resizer, selector, projector: see there; a resizer goes with neither of the others, nor with looks at the tower.
        patches: by 1-based layer.
        losses: terms of the training loss.
        steering: of a method that chooses per sample.
        copies: in training every sample with its neighbours runs so often through the decoder, side by side in one
            batch, and the language loss is the mean over all; parts see which copy a sample is
            (`PackedSequence.copy_of`). A batch without pictures, whose copies could not differ, runs once.
        lesson: what is learned behind the training.
    """

    reducers: dict[int, TokenReducer] = field(default_factory=dict)
    selector: Selector | None = None
    projector: Projector | None = None
    patches: dict[int, LayerPatch] = field(default_factory=dict)
    losses: tuple[LossTerm, ...] = ()
    steering: Steering | None = None
    resizer: Resizer | None = None
    copies: int = 1
    lesson: Lesson | None = None

    def __post_init__(self) -> None:
        looks = [look for part in self.all() for look in part.looks]
        if self.copies > 1 and (self.projector or self.selector or self.resizer or any(map(is_of_tower, looks))):
            raise ValueError(
                f"copies = {self.copies}: samples are copied behind tower, projector and selector; a method with "
                "copies has none of its own and does not look at the tower"
            )
        if self.resizer is not None and (self.selector is not None or self.projector is not None):
            raise ValueError("a resizer changes what the tower sees; it goes with no selector and no projector")
        if self.projector is not None and self.selector is not None and self.selector.before_projector:
            raise ValueError(
                "a projector with its own grid takes whole pictures, so the selector must work behind it "
                "(before_projector = False)"
            )
        for site in (site for site, reducer in self.reducers.items() if reducer.rider is not None):
            earlier = [layer for layer in self.reducers if layer < site] + [one for one in self.patches if one <= site]
            if earlier or not site:
                raise ValueError(
                    f"a row rides up to layer {site}; allowed: behind a layer, with neither a reducer in front of it "
                    "nor a patched layer on the way"
                )

    def all(self) -> list[Part]:
        """Every part with modules, in the order they run."""
        first = [part for part in (self.resizer, self.projector, self.selector) if part is not None]
        return [*first, *self.patches.values(), *self.reducers.values()]


def joined(hidden_TD: Tensor, outputs: Iterable[Tensor]) -> Tensor:
    """`hidden_TD` unchanged, from which zeros flow back to whatever computed `outputs`.

    It adds the sum of none of their rows, which unlike a sum times zero stays zero where an output is NaN.
    """
    for output in outputs:
        hidden_TD = hidden_TD + output[:0].sum().to(hidden_TD.dtype)
    return hidden_TD


def per_sample(state: PackedSequence, images: Mapping[int, int]) -> tuple[int, ...]:
    """A count for every sample out of counts by image (index into `state.images`)."""
    counts = np.zeros(state.num_samples, dtype=np.int64)
    for number, count in images.items():
        counts[state.images[number].sample] += count
    return tuple(counts.tolist())
