"""Parameter names of the layouts LLaVA checkpoints come in, and ours (spec base-models B.6, C.3, A.3).

Known: original LLaVA and its mm_projector.bin, llava-hf folders (before and after transformers 4.52), LLaVA-HR, and the
routers of the authors' DPN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

#: buffers that older versions of transformers stored and newer ones compute
COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")

_CONVNEXT = (
    (r"stem\.0\.", "embeddings.patch_embeddings."),
    (r"stem\.1\.", "embeddings.layernorm."),
    (r"stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.", r"encoder.stages.\1.layers.\2.dwconv."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.norm\.", r"encoder.stages.\1.layers.\2.layernorm."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc(\d)\.", r"encoder.stages.\1.layers.\2.pwconv\3."),
    # The authors of LLaVA-HR store the layer scale as `weight`, ChatRex's as `ramma`, timm as `gamma`.
    (r"stages\.(\d+)\.blocks\.(\d+)\.(?:gamma|ramma|weight)$", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
)
_SLOW = "model.vision_tower.slow."
#: first match wins; order matters where one pattern is the beginning of another
_RULES: tuple[tuple[str, str], ...] = (
    # llava-hf folders as they are on disk
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^(?:model\.)?vision_tower\.vision_model\.", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    # routers of the authors' DPN; layers count from 0 there
    (r"^model\.layers\.(\d+)\.pooling_router\.", r"reducers.\1.router."),
    # LLaVA-HR
    (r"^.*vision_tower\.fast_vision_tower\.vision_tower\.(?:vision_model\.)?", "model.vision_tower.fast."),
    *((r"^.*vision_tower\.slow_vision_tower\.vision_tower\." + old, _SLOW + new) for old, new in _CONVNEXT),
    (r"^.*vision_tower\.align_stages_latent\.", "model.vision_tower.adapters."),
    (r"^.*vision_tower\.align_stages\.0\.", "model.vision_tower.merge."),
    # original LLaVA; mm_projector.bin comes with and without a prefix
    (r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
    (r"^.*mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^.*mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
)
_COMPILED = tuple((re.compile(pattern), new) for pattern, new in _RULES)
_ROUTER = re.compile(r"^reducers\.(\d+)\.router\.")


def canonical_name(name: str) -> str | None:
    """The name a tensor has in `DpnForConditionalGeneration`; None for what is computed and not loaded."""
    if COMPUTED.search(name):
        return None
    for pattern, new in _COMPILED:
        renamed, found = pattern.subn(new, name, count=1)
        if found:
            return _count_from_one(renamed) if "pooling_router" in name else renamed
    return name


def convnext_name(name: str) -> str:
    """transformers' name of a ConvNeXt's tensor that has timm's; another name stays as it is."""
    for pattern, new in _CONVNEXT:
        renamed, found = re.subn("^" + pattern, new, name, count=1)
        if found:
            return renamed
    return name


def canonical_names(
    tensors: Mapping[str, Tensor], name_of: Callable[[str], str | None] = canonical_name
) -> dict[str, Tensor]:
    """Tensors under our names, as `name_of` gives them; what it gives None is left out.

    Raises:
        ValueError: two tensors would get the same name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = name_of(name)
        if new is None:
            continue
        if new in renamed:
            raise ValueError(f"two tensors of the checkpoint are {new}; one of them is stored as {name}")
        renamed[new] = tensor
    return renamed


def fit_vision_names(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Names with or without CLIP's inner `vision_model.`, whichever the installed transformers has."""
    wanted = set(expected)
    fitted: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = name.replace("vision_model.", "", 1)
        inner = re.sub(r"^model\.vision_tower\.(fast\.)?", r"model.vision_tower.\1vision_model.", plain)
        fitted[next((other for other in (name, plain, inner) if other in wanted), name)] = tensor
    return fitted


def _count_from_one(name: str) -> str:
    """Sites mean "after layer N" here, so the router of the authors' layer 7 belongs to site 8."""
    return _ROUTER.sub(lambda match: f"reducers.{int(match[1]) + 1}.router.", name)
