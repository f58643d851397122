"""What specs of methods that patch layers share: which layers, and the ledger of one picture. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad, Ledger, Rows
from dpn_model.methods.spec import image_rows


def resolve_layers(layers: Sequence[int] | None, default: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The patched layers of a decoder of `num_layers`, 1-based, ascending.

    Args:
        layers: as they were set; None: `default`.
        default: of a decoder of this depth.
        num_layers: of the decoder.

    Raises:
        ValueError: none, one is repeated, or one is not in 1..num_layers.
    """
    chosen = tuple(default if layers is None else layers)
    if not chosen or len(set(chosen)) != len(chosen) or not all(1 <= layer <= num_layers for layer in chosen):
        told = "of this base's depth" if layers is None else f"= {list(chosen)}"
        raise ValueError(
            f"layers {told}: there must be one, none twice; allowed: different layers from 1 to {num_layers}"
        )
    return tuple(sorted(chosen))


def rows_of(shape: ModelShape, text_tokens: int) -> Rows:
    """Rows of a sample with one picture."""
    return Rows(math.prod(image_rows(shape)), text_tokens)


def ledger_of(shape: ModelShape, rows: Rows, loads: Mapping[int, LayerLoad], macs: Mapping[str, int]) -> Ledger:
    """The ledger of a sample with one picture.

    Args:
        shape: of the base.
        rows: of the sample.
        loads: by patched layer, 1-based; all other layers run whole.
        macs: as in `Ledger`.
    """
    layers = range(1, shape.decoder.num_layers + 1)
    each = [loads.get(layer, LayerLoad.whole(rows)) for layer in layers]
    return Ledger.of_layers(rows, each, num_images=1, macs=macs)
