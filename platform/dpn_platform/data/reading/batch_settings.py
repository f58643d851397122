"""How rows become batches: the part of a configuration that the plan of batches depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpn_platform.config.schema import ExperimentConfig


@dataclass(frozen=True)
class BatchSettings:
    """How rows become batches.

    Attributes:
        micro_batch_size: rows; without a token budget no micro-batch has more.
        micro_batches_per_step: over all ranks and accumulation rounds.
        tokens_per_batch: budget of a micro-batch in decoder tokens, instead of a number of rows.
        by_modality: pictures and texts in steps of their own.
        balanced: deal a step's rows by expected cost (always so with a budget or by modality).
        source_weights: occurrences per row and epoch by source; 1 where not named.
    """

    micro_batch_size: int
    micro_batches_per_step: int
    tokens_per_batch: int | None = None
    by_modality: bool = False
    balanced: bool = False
    source_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def global_batch_size(self) -> int:
        """Rows of a plain step."""
        return self.micro_batch_size * self.micro_batches_per_step

    @property
    def is_plain(self) -> bool:
        """Whether steps are consecutive stretches of the order."""
        return self.tokens_per_batch is None and not self.by_modality

    @property
    def needs_index(self) -> bool:
        """Whether planning looks at single rows."""
        return not self.is_plain or self.balanced or bool(self.source_weights)

    @classmethod
    def of(cls, config: ExperimentConfig) -> BatchSettings:
        """The settings of a run."""
        data, train = config.data, config.train
        return cls(
            micro_batch_size=train.micro_batch_size,
            micro_batches_per_step=train.global_batch_size // train.micro_batch_size,
            tokens_per_batch=data.tokens_per_batch if data.batching == "tokens" else None,
            by_modality=data.grouping == "modality",
            balanced=data.balance,
            source_weights=dict(data.source_weights),
        )
