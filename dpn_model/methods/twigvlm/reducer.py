"""TwigVLM: copies of the layers behind K rank the visual tokens for the decoder (arXiv 2503.14075; peer-methods 6.7).

The twig learns to answer by itself: its own language loss, read through the base's norm and head. (The authors train
copies of these two along, which their drafts need and ranking does not; drafting is not done here.) Until it has
learned, it is a look at what the base's own layers behind K would look at. The authors train nothing else, which is
`train.lr`, `projector_lr` and `vision_lr` at 0 and `router_lr` at 1e-4; the base's loss, which they leave out, is then
part of the logged figure and teaches nobody.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from dpn_model.methods.contract import Host, LossInputs, Parts, TokenReducer
from dpn_model.methods.keeping import best_rows, columns_of
from dpn_model.methods.probe import TURNS, Probe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import kept_count
from dpn_model.methods.twigvlm.spec import TwigVlmSettings
from dpn_model.packing import PackedSequence


def build(settings: TwigVlmSettings, host: Host) -> Parts:
    """The twig, and the wipe."""
    site, wipe = settings.places(host.num_layers)
    twig = Twig(site, settings, host.copy_layers(site, settings.depth))
    reducers: dict[int, TokenReducer] = {site: twig}
    if wipe is not None:
        reducers[wipe] = Wipe(wipe, settings)
    return Parts(reducers, losses=(TwigLoss(twig),))


class Twig(TokenReducer):
    """Keeps the tokens of every picture that the twig's last layer looks at most, as it would begin its answer."""

    looks = frozenset({TURNS})

    def __init__(self, layer: int, settings: TwigVlmSettings, layers: nn.ModuleList) -> None:
        super().__init__(layer)
        self.settings = settings
        self.layers = layers
        #: what the twig made of the training batch, for its loss, which takes it away
        self.early: PackedSequence | None = None

    def reset_parameters(self) -> None:
        """The twig begins as the base's layers."""

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Run the twig (in training over texts too: it learns from all answers), rank, keep."""
        tokens_in = state.visual_tokens()
        joins = self.training or self.joins_ranks
        samples = [sample for sample, tokens in enumerate(tokens_in) if tokens or joins]
        if not samples:
            return state, ReductionRecord(self.layer, tokens_in, tokens_in, ("-",) * state.num_samples)
        branch = probe.run(list(self.layers), samples)
        self.early = branch.state if self.training else None
        scores = [
            branch.attention[samples.index(image.sample)].mean(dim=(0, 1))[columns_of(state, image)]
            for image in state.images
        ]
        counts = [kept_count(self.settings.keep, image.num_tokens) for image in state.images]
        rows = [ImageRows.kept(kept) for kept in best_rows(scores, counts)]
        return _reduced(state, rows, self.layer, self.settings, {"twig": branch.macs})


class Wipe(TokenReducer):
    """Drops all visual tokens: what they say is in the text by now."""

    def __init__(self, layer: int, settings: TwigVlmSettings) -> None:
        super().__init__(layer)
        self.settings = settings

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Keep none."""
        rows = [ImageRows.kept(np.empty(0, dtype=np.int64))] * len(state.images)
        return _reduced(state, rows, self.layer, self.settings, {})


def _reduced(
    state: PackedSequence,
    rows: list[ImageRows],
    layer: int,
    settings: TwigVlmSettings,
    macs: dict[str, tuple[int, ...]],
) -> tuple[PackedSequence, ReductionRecord]:
    after, _ = replace_image_rows(state, rows, keep_positions=settings.positions == "keep")
    before, left = state.visual_tokens(), after.visual_tokens()
    choices = tuple(str(out) if tokens else "-" for tokens, out in zip(before, left, strict=True))
    return after, ReductionRecord(layer, before, left, choices, macs=macs)


class TwigLoss:
    """The twig's own language loss; a mean over supervised tokens as the decoder's, which it is added to."""

    name, weight, joins_language_loss = "twig", 1.0, True

    def __init__(self, twig: Twig) -> None:
        self.twig = twig

    def __call__(self, seen: LossInputs) -> Tensor | None:
        """None in evaluation."""
        early, self.twig.early = self.twig.early, None
        if early is None:
            return None
        losses_R = seen.losses_of(early)
        return losses_R.mean() if len(losses_R) else losses_R.sum()
