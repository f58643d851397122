"""FLOPs of training, and how long devices take for them.

A multiply-accumulate is two operations; a backward pass costs two forward passes, one for the gradient of the input and
one for that of the weights, which frozen layers are spared; activation checkpointing runs layers once more; a frozen
tower runs forward alone (spec performance 2.4, whose table the tests repeat).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.flops import UNITS_PER_MAC
from dpn_model.cost.ledger import PROJECTOR, Ledger, sample_cost
from dpn_platform.config.devices import PEAK_TFLOPS
from dpn_platform.config.errors import ConfigError

FORWARD, FORWARD_AND_BACKWARD = 1, 3
#: of layers that are frozen above something that is trained
PASSED_THROUGH = 2
#: target of spec performance 7, T8
ASSUMED_MFU = 0.45
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class SampleMeans:
    """A sample of the data set, on average.

    Attributes:
        text_tokens: all tokens that are not visual.
        supervised_tokens: those of them the loss is taken of.
        images_per_sample: share of samples that have a picture.
    """

    text_tokens: float
    supervised_tokens: float
    images_per_sample: float = 1.0


@dataclass(frozen=True)
class PlannedPasses:
    """How often each part of a recipe will run, in forward passes; `training.step_flops` counts what ran."""

    vision: int
    decoder: int
    head: int
    adapters: int

    @classmethod
    def of(cls, *, trains_vision: bool, checkpointed: bool, trains_decoder: bool = True) -> PlannedPasses:
        """Of a recipe. A recomputed tower counts whole, though a ConvNeXt in it is not recomputed."""
        again = 1 if checkpointed else 0
        through = FORWARD_AND_BACKWARD if trains_decoder else PASSED_THROUGH
        vision = FORWARD_AND_BACKWARD + again if trains_vision else FORWARD
        return cls(vision, through + again, through, FORWARD_AND_BACKWARD + again)


def training_flops(
    shape: ModelShape,
    ledgers: Sequence[Ledger],
    means: SampleMeans,
    passes: PlannedPasses,
    adapters: int = 0,
) -> dict[str, float]:
    """Operations of one sample's share of a training step, by part. A mean of costs: text-only samples are apart.

    Args:
        shape: of the base.
        ledgers: of a sample with a picture, one for every time it goes through the decoder.
        means: the average sample.
        passes: see `PlannedPasses.of`.
        adapters: parameters of the decoder's low-rank adapters, every layer's alike.
    """
    flops_per_mac = UNITS_PER_MAC["true"]
    text = round(means.text_tokens)
    with_picture = sum(ledger.prefill(shape.decoder, "true").total for ledger in ledgers)
    text_only = len(ledgers) * sample_cost(shape.decoder, (), (0,), text, "true").total
    head = flops_per_mac * shape.decoder.hidden_size * shape.decoder.vocab_size
    tokens = sum(means.images_per_sample * ledger.mean_visual_tokens() + text for ledger in ledgers)
    projector = ledgers[0].macs.get(PROJECTOR, shape.projector_macs or 0)
    beside = sum(macs for ledger in ledgers for tag, macs in ledger.macs.items() if tag != PROJECTOR)
    return {
        "vision": flops_per_mac * passes.vision * means.images_per_sample * (shape.vision_macs or 0),
        "projector": flops_per_mac * FORWARD_AND_BACKWARD * means.images_per_sample * projector,
        "decoder": passes.decoder
        * (means.images_per_sample * with_picture + (1 - means.images_per_sample) * text_only),
        "method": flops_per_mac * FORWARD_AND_BACKWARD * means.images_per_sample * beside,
        "adapters": flops_per_mac * passes.adapters * adapters * tokens,
        "head": passes.head * len(ledgers) * means.supervised_tokens * head,
    }


def peak_tflops(device: str, given: float | None) -> float:
    """What `device` can do at most, in 10^12 operations per second.

    Raises:
        ConfigError: nobody has measured this device here, and none is given.
    """
    if given is not None:
        return given
    if device.lower() not in PEAK_TFLOPS:
        known = ", ".join(PEAK_TFLOPS)
        raise ConfigError(f"--device {device}: its peak is not known here (known: {known}); give --peak-tflops")
    return PEAK_TFLOPS[device.lower()]


def device_hours(flops: float, tflops: float, mfu: float) -> float:
    """Hours of one device at `mfu` of its peak; recomputed layers count as work."""
    return flops / (tflops * 1e12 * mfu) / _SECONDS_PER_HOUR
