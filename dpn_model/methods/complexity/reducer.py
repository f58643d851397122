"""Complexity of pictures, measured once, decides every site's kernel; a heuristic has nothing to learn.

Shape letters: I pictures, V patches, C width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dpn_model.methods.complexity.spec import TAG, ComplexitySettings
from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.pooling.site import Decision, PoolingSite
from dpn_model.methods.probe import PIXELS, Probe, VisionProbe, level
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.spectra import energies, gram_macs, values_holding
from dpn_model.packing import PackedSequence

_ENERGY = 0.9


def build(settings: ComplexitySettings, host: Host) -> Parts:
    """One decision, carried out at every site."""
    sites = settings.kernels_by_site(host.num_layers)
    return Parts({layer: Complexity(layer, settings, host.hidden_size, kernels) for layer, kernels in sites.items()})


class Complexity(PoolingSite):
    """Pools with the kernel of the sample's level: how many thresholds its pictures reach, on the mean.

    The first site measures and leaves the level to the others (`PackedSequence.passages`).
    """

    method: ComplexitySettings

    def __init__(self, layer: int, method: ComplexitySettings, hidden_size: int, experts: Sequence[str]) -> None:
        super().__init__(layer, method, hidden_size, experts)
        self.looks = frozenset({level(-1) if method.measure == "features" else PIXELS})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """See `PoolingSite`."""
        if state.passages or not state.images:
            return super().forward(state, probe)
        assert probe.vision is not None
        after, record = super().forward(replace(state, passages=self._levels(state, probe, probe.vision)), probe)
        if self.method.measure != "features":
            return after, record
        spent = [0] * state.num_samples
        for image, picture in zip(probe.entered, probe.vision.pictures, strict=True):
            spent[image.sample] += gram_macs(*picture.features_PC.shape)
        return after, replace(record, macs={**record.macs, TAG: tuple(spent)})

    def decide(self, state: PackedSequence, samples: tuple[int, ...], tokens_BE: Sequence[tuple[int, ...]]) -> Decision:
        """The level's expert, or the nearest that is feasible, the finer of two."""
        chosen = []
        for sample, tokens in zip(samples, tokens_BE, strict=True):
            wanted = len(self.kernels) - 1 - state.passages[sample]
            feasible = [expert for expert, left in enumerate(tokens) if left]
            chosen.append(min(feasible, key=lambda expert: (abs(expert - wanted), expert)))
        return Decision(tuple(chosen), passages=state.passages)

    def _levels(self, state: PackedSequence, probe: Probe, vision: VisionProbe) -> tuple[int, ...]:
        measured: list[list[float]] = [[] for _ in range(state.num_samples)]
        for image, value in zip(probe.entered, measure(self.method.measure, vision).tolist(), strict=True):
            measured[image.sample].append(value)
        means = [sum(values) / max(1, len(values)) for values in measured]
        return tuple(sum(mean >= threshold for threshold in self.method.thresholds) for mean in means)


@torch.no_grad()
def measure(name: str, vision: VisionProbe) -> Tensor:
    """float64[I]: complexity of every picture (`ComplexitySettings.measure`)."""
    if name == "features":
        features_IVC = torch.stack([picture.features_PC for picture in vision.pictures])
        held = values_holding(energies(features_IVC), _ENERGY)
        return held.double() / min(features_IVC.shape[1:])
    pixels = vision.pixels().double()
    if name == "gradient":
        down, across = pixels.diff(dim=-2).square(), pixels.diff(dim=-1).square()
        return (down.flatten(1).mean(dim=1) + across.flatten(1).mean(dim=1)) / 2
    brightness = pixels.mean(dim=1)
    brightness = brightness - brightness.mean(dim=(-2, -1), keepdim=True)
    energy = torch.fft.fft2(brightness).abs().square()
    highs = [torch.fft.fftfreq(size, device=pixels.device).abs() > 1 / 8 for size in energy.shape[-2:]]
    is_high = highs[0][:, None] | highs[1]
    return (energy * is_high).sum(dim=(-2, -1)) / energy.sum(dim=(-2, -1)).clamp(min=1e-12)
