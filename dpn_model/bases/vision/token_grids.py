"""Which of a tower's tokens a base takes, and the grid they form. Arithmetic on configurations, without torch."""

from __future__ import annotations

from typing import Any

from dpn_model.bases.towers.clip_shape import CLASS_TOKENS


def class_tokens_kept(base: Any) -> int:
    """Class tokens among the features of a base with `vision_config` and `vision_feature_select_strategy`.

    Raises:
        ValueError: an unknown tower, or a strategy that would take a patch away.
    """
    kind, strategy = base.vision_config.model_type, base.vision_feature_select_strategy
    if kind not in CLASS_TOKENS:
        raise ValueError(
            f"vision_config.model_type = {kind!r}; allowed in {base.model_type}: {', '.join(CLASS_TOKENS)}"
        )
    if strategy == "full":
        return CLASS_TOKENS[kind]
    if strategy != "default" or not CLASS_TOKENS[kind]:
        allowed = "default, full" if CLASS_TOKENS[kind] else "full (its tower has no class token to leave out)"
        raise ValueError(f"vision_feature_select_strategy = {strategy!r}; allowed with {kind}: {allowed}")
    return 0


def internvl_tile(base: Any) -> tuple[int, int]:
    """Side of an InternVL tile in pixels, and of its grid: patches without the class token, shuffled into fewer.

    Raises:
        ValueError: a tile that is not square, or features that are no grid.
    """
    sizes, patches = (
        (size, size) if isinstance(size, int) else tuple(size)
        for size in (base.vision_config.image_size, base.vision_config.patch_size)
    )
    if len(set(sizes)) > 1 or len(set(patches)) > 1:
        raise ValueError(f"vision_config: image_size = {sizes}, patch_size = {patches}; allowed in internvl: squares")
    if base.vision_feature_select_strategy != "default":
        strategy = base.vision_feature_select_strategy
        raise ValueError(f"vision_feature_select_strategy = {strategy!r}; allowed in internvl: default")
    return sizes[0], int(sizes[0] // patches[0] * base.downsample_ratio)


def idefics_tile(base: Any) -> tuple[int, int]:
    """Side of a tile of Idefics3 or SmolVLM in pixels, and of its grid."""
    size = base.vision_config.image_size
    return size, size // base.vision_config.patch_size // base.scale_factor
