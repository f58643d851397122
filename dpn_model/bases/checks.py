"""Settings of a base that would be computed otherwise than transformers does; each is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from dpn_model.bases.decoders import check_decoder

#: rotary embeddings whose frequencies follow the longest sample of a batch: packed, one sample would change its
#: neighbours' positions, and a cache would hold keys of other frequencies than the queries behind it
_ROPE_BY_BATCH = ("dynamic", "longrope")


def check_base(base: PreTrainedConfig) -> None:
    """Refuse a configuration that packed batches of whole grids cannot follow.

    Raises:
        ValueError: the field, its value and what is allowed.
    """
    check_decoder(base.text_config)
    allowed = {"default", *ROPE_INIT_FUNCTIONS} - set(_ROPE_BY_BATCH)
    for kind in sorted(_rope_types(getattr(base.text_config, "rope_parameters", None) or {})):
        if kind not in allowed:
            raise ValueError(
                f"text_config.rope_parameters: rope_type = {kind!r}; allowed: {', '.join(sorted(allowed))}"
            )


def _rope_types(parameters: Mapping[str, Any]) -> set[str]:
    """Of one set of parameters, or of one per kind of layer."""
    nested = [value for value in parameters.values() if isinstance(value, Mapping)]
    if nested:
        return {kind for value in nested for kind in _rope_types(value)}
    return {str(parameters.get("rope_type", "default"))}
