"""Random dropping: the control every selection method must beat at equal FLOPs (spec peer-methods 6.4)."""

from __future__ import annotations

import numpy as np
import torch

from dpn_model.methods.contract import Host, Parts, TokenReducer
from dpn_model.methods.probe import Probe
from dpn_model.methods.random_drop.spec import RandomDropSettings, kept
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.packing import ImageSpan, PackedSequence


def build(settings: RandomDropSettings, host: Host) -> Parts:
    """A draw at every site."""
    return Parts({layer: RandomDrop(layer, settings) for layer in settings.resolve_sites(host.num_layers)})


class RandomDrop(TokenReducer):
    """Keeps a uniformly drawn `keep_ratio` of every image's tokens, in order.

    In training every call draws anew; at inference the subset depends on (seed, layer, the sample itself), so that an
    answer depends neither on its batch nor on the run.

    One seed is one draw per sample, and a score under it is one draw's. An interval that is to cover the draws as well
    needs several seeds (`seed`; the method has no weights, so one checkpoint serves for all): average a
    question's results over the seeds first, then resample questions.
    """

    def __init__(self, layer: int, method: RandomDropSettings) -> None:
        super().__init__(layer)
        self.method = method

    @property
    def needs_sample_keys(self) -> bool:
        """At inference only."""
        return not self.training

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Drop tokens of every image."""
        tokens_in = state.visual_tokens()
        rows = [self._draw(image, number, state) for number, image in enumerate(state.images)]
        after, _ = replace_image_rows(state, rows, keep_positions=self.method.positions == "keep")
        choices = tuple(f"keep {self.method.keep_ratio:.0%}" if tokens else "-" for tokens in tokens_in)
        return after, ReductionRecord(self.layer, tokens_in, after.visual_tokens(), choices)

    def _draw(self, image: ImageSpan, number: int, state: PackedSequence) -> ImageRows:
        count = kept(image.num_tokens, self.method.keep_ratio)
        if self.training:  # torch's generator: a resumed run draws what an undisturbed one would
            order = torch.randperm(image.num_tokens).numpy()
        else:
            first = next(place for place, other in enumerate(state.images) if other.sample == image.sample)
            place, key = number - first, state.sample_keys[image.sample] % (1 << 64)
            draws = np.random.default_rng((self.method.seed, self.layer, place, key)).random(image.num_tokens)
            order = np.argsort(draws, kind="stable")
        return ImageRows.kept(np.sort(order[:count]))
