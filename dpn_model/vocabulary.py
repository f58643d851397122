"""The rows of the embedding and of the head: other numbers of them, and one for `<ROUTER>`.

A mixin of the model, which has `config`, `model` and `lm_head`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dpn_model.bases.shapes import model_shape
from dpn_model.configuration import DpnConfig
from dpn_model.cost.bill import ModelShape
from dpn_model.weights.router_row import ROUTER_ROW_SEED, grow_rows


class Vocabulary(PreTrainedModel):
    """`resize_token_embeddings`, after which a saved folder loads; a routing method brings the row it needs."""

    config: DpnConfig
    model: Any
    lm_head: nn.Linear
    model_shape: ModelShape

    def embedding_name(self) -> str:
        """Name of the input embedding's weight inside `model`."""
        weight = self.model.get_input_embeddings().weight
        return next(name for name, parameter in self.model.named_parameters() if parameter is weight)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """As in transformers; the configuration, and what a save writes, follow.

        Raises:
            ValueError: fewer rows than the id of `<ROUTER>` needs.
        """
        router = self.config.router_token_id
        if router is not None and new_num_tokens is not None and new_num_tokens <= router < self._rows:
            raise ValueError(
                f"resize_token_embeddings: new_num_tokens = {new_num_tokens} leaves no row for <ROUTER>, id {router}; "
                f"allowed: {router + 1} or more"
            )
        embeddings = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        self._note_rows()
        return embeddings

    def make_room_for_router(self) -> None:
        """Rows up to `<ROUTER>`'s, drawn as the authors do, where the vocabulary ends before its id."""
        router = self.config.router_token_id
        if router is None or router < self._rows:
            return
        generator = torch.Generator("cpu").manual_seed(ROUTER_ROW_SEED)
        embeddings = self.get_input_embeddings()
        is_tied = embeddings.weight is self.lm_head.weight
        for weight in [embeddings.weight] if is_tied else [embeddings.weight, self.lm_head.weight]:
            _set_rows(weight, grow_rows(weight.data, router + 1, generator))
        embeddings.num_embeddings = self.lm_head.out_features = router + 1
        self._note_rows()

    @property
    def _rows(self) -> int:
        return len(self.lm_head.weight)

    def _note_rows(self) -> None:
        self.config.base_config["text_config"]["vocab_size"] = self._rows
        self.model.language_model.config.vocab_size = self._rows
        self.model_shape = model_shape(self.config.base)


def _set_rows(weight: nn.Parameter, rows: Tensor) -> None:
    """The parameter stays the same object: an optimiser or a tied module may hold it."""
    weight.data = rows
    weight.grad = None
