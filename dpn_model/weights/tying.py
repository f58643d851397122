"""One weight or two: whether an embedding is also the head, in the configuration and in the tensors alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpn_model.configuration import DpnConfig
from dpn_model.weights.router_row import EMBEDDING, HEAD


def settle_tying(config: DpnConfig, tensors: dict[str, Tensor]) -> None:
    """Make a folder's configuration say what its tensors are; a head that is the embedding is left out.

    As in transformers, a configuration that ties two different weights is the one that is wrong.
    """
    if not config.tie_word_embeddings or HEAD not in tensors:
        return
    if EMBEDDING not in tensors or torch.equal(tensors[EMBEDDING], tensors[HEAD]):
        tensors.setdefault(EMBEDDING, tensors[HEAD])
        del tensors[HEAD]
    else:
        set_tied(config.base_config, False)


def set_tied(base_config: dict[str, Any], is_tied: bool) -> None:
    """Say it in both places where families of transformers look for it."""
    base_config["tie_word_embeddings"] = is_tied
    base_config["text_config"]["tie_word_embeddings"] = is_tied
