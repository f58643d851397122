"""Both towers of a ChatRex checkpoint: as its config.json describes them, or else the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import AutoConfig, CLIPVisionConfig, ConvNextConfig

from dpn_model.bases.catalogue import named_base
from dpn_model.weights.chatrex_names import FAST, SLOW
from dpn_model.weights.original_fields import HARMLESS, check_known, taken_over

#: where config.json describes CLIP and ConvNeXt, in transformers' fields
_CLIP, _CONVNEXT = "vision_config", "slow_vision_config"
_CLIP_FIELDS = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size hidden_act "
    "layer_norm_eps".split()
)
_CONVNEXT_FIELDS = "hidden_sizes depths patch_size hidden_act layer_norm_eps".split()
#: the fields that transformers derives from ConvNeXt's depths
_DERIVED = ("num_stages", "stage_names", "out_features", "out_indices")
#: of timm's ConvNeXt-L; transformers' default is another
_TIMM_EPS = 1e-6


def tower_configs(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[CLIPVisionConfig, ConvNextConfig]:
    """CLIP's configuration and ConvNeXt's.

    Args:
        config: config.json; `vision_config` and `slow_vision_config` are read, where they are there.
        tensors: by our names.

    Raises:
        ValueError: a tower of another kind, a field that is not supported; or a tower that is not described and whose
            tensors have other shapes than the published one's.
    """
    return _clip(config, tensors), _convnext(config, tensors)


def check_widths(config: Mapping[str, Any], image_width: int, object_width: int) -> None:
    """Raise ValueError where config.json says that the projectors take other widths than the towers give."""
    for field, width in (("mm_hidden_size", image_width), ("object_hidden_size", object_width)):
        if config.get(field) not in (None, width):
            raise ValueError(f"config.json: {field} = {config[field]!r}; allowed: {width}, which the towers give")


def _clip(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CLIPVisionConfig:
    if _is_described(config, _CLIP):
        check_known(config[_CLIP], {*_CLIP_FIELDS, *HARMLESS, "projection_dim"}, CLIPVisionConfig(), f"{_CLIP}.")
        _check_kind(config, _CLIP, CLIPVisionConfig.model_type)
        return taken_over(config[_CLIP], _CLIP_FIELDS, CLIPVisionConfig)
    published: Any = _published(_CLIP)
    patch, width = published.patch_size, published.hidden_size
    shapes = {
        "embeddings.patch_embedding.weight": [width, 3, patch, patch],
        "embeddings.position_embedding.weight": [1 + (published.image_size // patch) ** 2, width],
    }
    _check_shapes(tensors, FAST, shapes, "CLIP ViT-L/14-336", _CLIP)
    return published


def _convnext(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ConvNextConfig:
    if _is_described(config, _CONVNEXT):
        plain = ConvNextConfig()
        check_known(config[_CONVNEXT], {*_CONVNEXT_FIELDS, *HARMLESS, *_DERIVED}, plain, f"{_CONVNEXT}.")
        _check_kind(config, _CONVNEXT, ConvNextConfig.model_type)
        return taken_over({"layer_norm_eps": _TIMM_EPS, **config[_CONVNEXT]}, _CONVNEXT_FIELDS, ConvNextConfig)
    published: Any = _published(_CONVNEXT)
    patch = published.patch_size
    shapes = {"embeddings.patch_embeddings.weight": [published.hidden_sizes[0], 3, patch, patch]}
    _check_shapes(tensors, SLOW, shapes, "ConvNeXt-L", _CONVNEXT)
    return published


def _is_described(config: Mapping[str, Any], field: str) -> bool:
    return isinstance(config.get(field), Mapping) and bool(config[field])


def _published(field: str) -> Any:
    return AutoConfig.for_model(**named_base("chatrex-7b").base_config[field])


def _check_kind(config: Mapping[str, Any], field: str, allowed: str) -> None:
    given = config[field].get("model_type", allowed)
    if given != allowed:
        raise ValueError(f"config.json: {field}.model_type = {given!r}; allowed: {allowed}")


def _check_shapes(
    tensors: Mapping[str, Tensor], prefix: str, shapes: Mapping[str, Sequence[int]], published: str, field: str
) -> None:
    """Some of a tower's shapes tell which it is; all of them are compared when the weights are loaded."""
    for name, shape in shapes.items():
        given = tensors.get(prefix + name)
        if given is not None and list(given.shape) != list(shape):
            raise ValueError(
                f"config.json has no {field}, and the checkpoint's tower is not the published {published}: "
                f"{prefix}{name} {list(given.shape)} instead of {list(shape)}"
            )
