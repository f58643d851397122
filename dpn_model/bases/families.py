"""Why a family of transformers' VLMs is not among the bases: in a line of its refusal, and in docs/families.md."""

from __future__ import annotations

from transformers import PreTrainedConfig

from dpn_model.bases.decoders import DECODERS, LAYER_KINDS

_BOTH_WAYS = "a picture's tokens attend to each other both ways, packed attention is causal"
_CROSS = "pictures are seen by cross-attention and have no tokens in the decoder that could be pooled"
#: what a configuration does not tell
_REASONS = {
    "blip": _CROSS,
    "diffusion_gemma": "it writes whole blocks by denoising",
    "evolla": "its encoder reads proteins",
    "gemma3": _BOTH_WAYS,
    "gemma4": _BOTH_WAYS,
    "gemma4_unified": _BOTH_WAYS,
    "git": _BOTH_WAYS,
    "idefics": _CROSS,
    "mllama": _CROSS,
    "molmo2": _BOTH_WAYS,
    "paligemma": _BOTH_WAYS,
    "pi0": "it moves a robot's arm",
    "shieldgemma2": _BOTH_WAYS,
}


def why_not(base: PreTrainedConfig) -> str:
    """What keeps a base from being attached, whose pictures have no image side (`vision.image_side`)."""
    if base.model_type in _REASONS:
        return _REASONS[base.model_type]
    if base.is_encoder_decoder:
        return "an encoder-decoder"
    text = getattr(base, "text_config", None)
    if text is None:
        return "no text_config, so no decoder of its own"
    others = sorted(set(getattr(text, "layer_types", None) or ()) - LAYER_KINDS)
    if others:
        return f"its decoder has layers of {', '.join(others)}"
    if text.model_type not in DECODERS:
        return f"its decoder, {text.model_type}, was not compared with packed execution"
    return "nobody has described its pictures here; its decoder would do"
