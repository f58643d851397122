"""Checkpoints of the ChatRex family as their authors wrote them: configuration from config.json and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dpn_model.bases.chatrex.model import ChatRexConfig
from dpn_model.bases.towers.convnext_shape import slow_stride
from dpn_model.configuration import DpnConfig
from dpn_model.weights.chatrex_fields import check_fields, decoder_config, has_query_biases, is_tied
from dpn_model.weights.chatrex_names import part_names, projector_names
from dpn_model.weights.chatrex_towers import check_widths, tower_configs
from dpn_model.weights.object_rows import find_object_rows, with_object_rows
from dpn_model.weights.original import one_head
from dpn_model.weights.router_row import EMBEDDING, with_rows


def from_chatrex(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Configuration and completed tensors of a ChatRex or a RexSeek.

    Args:
        config: its config.json.
        tensors: by the names in its files; each keeps its type of numbers.
        folder: with its tokenizer, if it has one.

    Returns:
        The configuration, and the tensors by our names, with rows for the tokens of objects and for `<ROUTER>` where
        the checkpoint had none. What belongs to no part keeps its name.

    Raises:
        ValueError: a field with a value that is not supported here, a part that is absent or could be two, or towers
            that nothing describes.
    """
    named = part_names(tensors)
    has_biases = has_query_biases(named)
    check_fields(config, has_biases)
    clip, slow = tower_configs(config, named)
    widths = clip.hidden_size + slow.hidden_sizes[-1], sum(slow.hidden_sizes)
    check_widths(config, *widths)
    named = one_head({"tie_word_embeddings": is_tied(config)}, projector_names(named, *widths))
    places = find_object_rows(folder, len(named[EMBEDDING]))
    named = with_rows(with_object_rows(named, places), places.router + 1)
    rows = len(named[EMBEDDING])
    base = ChatRexConfig(
        vision_config=clip,
        slow_vision_config=slow,
        text_config=decoder_config(config, has_biases, rows),
        image_size=config.get("image_size") or clip.image_size // clip.patch_size * slow_stride(slow),
        vision_feature_layer=config.get("mm_vision_select_layer") or config.get("vision_feature_layer") or -2,
        image_token_index=rows,
        object_token_index=rows + 1,
        tie_word_embeddings=is_tied(config),
    )
    return DpnConfig(base_config=base, router_token_id=places.router), named
