"""The stateful worker as Ray Data is given it. Imports nothing heavy: whoever plans an evaluation runs no model."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class PredictorSettings:
    """What every worker is told.

    Attributes:
        checkpoint_uri: a from_pretrained folder (path or URI), model and processor.
        batch_size: samples per forward pass.
        num_threads: of torch; 0 leaves torch's own choice.
    """

    checkpoint_uri: str
    batch_size: int
    max_new_tokens: int
    num_threads: int = 0
    use_gpu: bool = False


class PredictorActor:
    """Makes a `Predictor` in its own process and hands batches to it."""

    def __init__(self, settings: PredictorSettings) -> None:
        from dpn_platform.evaluation.predictor import Predictor

        self._predictor = Predictor(settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """See `Predictor`."""
        return self._predictor(table)
