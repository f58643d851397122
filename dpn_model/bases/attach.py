"""The base model behind a configuration: any transformers VLM whose decoder layers follow the standard call."""

from __future__ import annotations

from typing import Any

from transformers import MODEL_MAPPING, PreTrainedConfig

from dpn_model.attention import ATTENTION_NAME
from dpn_model.bases.llava_hr import LlavaHrModel
from dpn_model.bases.llava_hr_config import LlavaHrConfig


def build_base_model(base: PreTrainedConfig) -> Any:
    """A base without its head, with weights from torch's generator and packed attention in its decoder.

    Args:
        base: configuration with `text_config`; the model built from it has `language_model` (with `layers`, `norm` and
            `rotary_emb`) and `get_image_features`.

    Raises:
        ValueError: the decoder has layers that are not full causal attention, which packed attention would silently
            treat as if they were, or the model is not composed like that.
    """
    kinds = set(getattr(base.text_config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(f"text_config.layer_types holds {', '.join(sorted(kinds))}; allowed: full_attention")
    base.text_config._attn_implementation = ATTENTION_NAME
    model = LlavaHrModel(base) if isinstance(base, LlavaHrConfig) else MODEL_MAPPING[type(base)](base)
    decoder: Any = getattr(model, "language_model", None)
    missing = [name for name in ("layers", "norm", "rotary_emb") if not hasattr(decoder, name)]
    if missing:
        raise ValueError(f"base {base.model_type!r} cannot be attached: its language_model has no {', '.join(missing)}")
    decoder.config._attn_implementation = ATTENTION_NAME
    return model
