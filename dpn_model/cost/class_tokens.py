"""Which of a tower's tokens a LLaVA takes: patches alone, or the class token before them too."""

from __future__ import annotations

from typing import Any

#: tokens that a tower puts before its patches
CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}


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
