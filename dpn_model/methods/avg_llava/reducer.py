"""AVG-LLaVA: the router picks one granularity for all pictures of a sample (arXiv 2410.02745; spec peer-methods 9).

In training a sample goes through the decoder at every granularity, its copies side by side in one batch: the language
loss is the mean over them (the authors' third stage) and each one's loss teaches the router (their fourth). The authors
train one after the other; with `lr` and its like at 0, or `router_lr`, so does a recipe here.

Shape letters: N pictures, L tokens that the router reads of one, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.avg_llava.losses import Feedback
from dpn_model.methods.avg_llava.router import Router, heard_words
from dpn_model.methods.avg_llava.spec import HEADS, AvgLlavaSettings, router_macs
from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.instruction import instruction_rows
from dpn_model.methods.pooling.experts import window_rows
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.methods.probe import TURNS
from dpn_model.packing import ImageSpan, PackedSequence


def build(settings: AvgLlavaSettings, host: Host) -> Parts:
    """One site; see the module."""
    on_grid = settings.on_grid(host.image_grid)
    if host.hidden_size % HEADS:
        raise ValueError(
            f"name = avg_llava: its router has {HEADS} heads, the decoder a width of {host.hidden_size}; allowed: "
            f"multiples of {HEADS}"
        )
    (layer,) = on_grid.resolve_sites(host.num_layers)
    assert host.image_grid is not None
    site = AdaptiveGranularity(layer, on_grid, host.hidden_size, host.image_grid)
    return Parts({layer: site}, losses=(Feedback(on_grid),), steering=Steering(site), copies=len(on_grid.experts))


class AdaptiveGranularity(PoolingSite):
    """One choice per sample, shared by all its pictures."""

    looks = frozenset({TURNS})

    method: AvgLlavaSettings

    def __init__(self, layer: int, settings: AvgLlavaSettings, hidden_size: int, grid: tuple[int, int]) -> None:
        super().__init__(layer, settings, hidden_size, settings.experts)
        self.grid, self.hidden_size = grid, hidden_size
        self.router_tokens = settings.router_tokens(grid)
        experts = len(settings.experts)
        self.router = Router(hidden_size, self.router_tokens, experts, settings.attention, settings.dropout)
        #: fixed for every sample, or None: the router decides (`set_route`)
        self.forced_expert: int | None = None

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The router's choice, or the forced one; of copies, each granularity once."""
        images = state.images[: len(state.images) // state.copies]
        heard = samples[: len(samples) // state.copies]
        pictures = [sum(image.sample == sample for image in images) for sample in heard]
        logits_BE = self.router(self._read(state, images), pictures).repeat(state.copies, 1)
        if state.copies > 1:
            chosen = tuple(state.copy_of(sample) for sample in samples)
        elif self.forced_expert is not None:
            chosen = (self.forced_expert,) * len(samples)
        else:
            chosen = tuple(logits_BE.detach().argmax(dim=1).tolist())
        return Decision(chosen, probs_BE=logits_BE.softmax(dim=1), logits_BE=logits_BE)

    def run_on_nothing(self, empty_TD: Tensor) -> list[Tensor]:
        """Logits of no sample."""
        return [self.router(empty_TD.new_empty(0, self.router_tokens, self.hidden_size), ())]

    def _read(self, state: PackedSequence, images: Sequence[ImageSpan]) -> Tensor:
        """float[N, L, D]: every picture at all granularities, then the words that are most like the sample's first."""
        hidden_TD, words, found = state.hidden_TD.detach(), dict[int, Tensor](), []
        for number, image in enumerate(images):
            if (image.height, image.width) != self.grid or image.row_end:
                raise ValueError(
                    f"picture {number} has {image.height}x{image.width} visual tokens; allowed with avg_llava: "
                    f"{self.grid[0]}x{self.grid[1]}, a weight of its voter each"
                )
            picture_VD = hidden_TD[image.start : image.start + image.num_tokens]
            if image.sample not in words:
                asked = torch.from_numpy(instruction_rows(state, image.sample)).to(hidden_TD.device)
                words[image.sample] = heard_words(picture_VD, hidden_TD[asked], self.method.text_tokens)
            pooled = []
            for number, kernel in enumerate(self.kernels):
                windows = window_rows(*self.grid, kernel, self.method.rounding)
                cells = picture_VD[torch.from_numpy(np.maximum(windows, 0)).to(hidden_TD.device)]
                absent = torch.from_numpy(windows < 0).to(hidden_TD.device) if (windows < 0).any() else None
                pooled.append(self._pool(number)(cells, absent))
            found.append(torch.cat([*pooled, words[image.sample]]))
        return torch.stack(found)

    def _macs(
        self, chosen: dict[int, int], after: PackedSequence, tokens_in: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """The router's, once for all copies of a sample."""
        pictures = [0] * after.num_samples
        for image in after.images[: len(after.images) // after.copies]:
            pictures[image.sample] += 1
        shape = (self.hidden_size, self.router_tokens, len(self.kernels))
        return {"router": tuple(router_macs(*shape, count, self.method.attention) for count in pictures)}


class Steering:
    """A route is one granularity; there is no dial."""

    def __init__(self, site: AdaptiveGranularity) -> None:
        self.site = site

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force a granularity for every sample at inference; None: the router decides again.

        Raises:
            ValueError: not one of the site's.
        """
        if route is not None and (len(route) != 1 or route[0] not in self.site.expert_names):
            raise ValueError(f"route = {list(route)}; allowed: one of {', '.join(self.site.expert_names)}")
        self.site.forced_expert = None if route is None else self.site.expert_names.index(route[0])

    def turned(self, dial: Mapping[str, Any], flops_ratio: float | None) -> Mapping[str, Any]:
        """Raises ValueError: no dial."""
        raise ValueError("avg_llava has no budget dial; allowed: set_route with one of its experts")

    def set_dial(self, dial: Mapping[str, Any] | None, decoder: Any) -> None:
        """Raises ValueError for any dial."""
        if dial is not None:
            self.turned(dial, None)
