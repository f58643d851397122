"""The base as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import MethodSettings
from dpn_model.methods.spec import MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class DenseSettings(MethodSettings):
    """There is nothing to set."""

    name: ClassVar[str] = "dense"


def plan(settings: DenseSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """Every layer runs everything."""
    tokens = math.prod(image_rows(shape))
    ledger = Ledger.of_stages(shape.decoder.num_layers, (), (tokens,), text_tokens, num_images=1)
    return Planned(ledger, ledger)


SPEC = MethodSpec(settings=DenseSettings, label="dense", plan=plan, needs_training="none")
