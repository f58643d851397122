"""The base model behind a configuration: a transformers VLM whose decoder packed execution can run."""

from __future__ import annotations

from typing import Any

from transformers import MODEL_MAPPING, PreTrainedConfig

from dpn_model.attention.packed import ATTENTION_NAME
from dpn_model.bases.chatrex.model import ChatRexModel
from dpn_model.bases.checks import check_base
from dpn_model.bases.decoders import check_layers
from dpn_model.bases.idefics import Idefics3Base, SmolVLMBase
from dpn_model.bases.llava_hr.model import LlavaHrModel

#: by `model_type`, where transformers' own model does not do
_OWN_MODELS: dict[str, Any] = {
    "chatrex": ChatRexModel,
    "idefics3": Idefics3Base,
    "llava_hr": LlavaHrModel,
    "smolvlm": SmolVLMBase,
}


def build_base_model(base: PreTrainedConfig) -> Any:
    """A base without its head, with weights from torch's generator and packed attention in its decoder.

    Args:
        base: configuration with `text_config`; the model built from it has `language_model` (with `layers`, `norm` and
            `rotary_emb`) and `get_image_features`.

    Raises:
        ValueError: the decoder computes what packed execution would silently leave out (`bases.checks`), or the
            model is not composed like that.
    """
    check_base(base)
    base.text_config._attn_implementation = ATTENTION_NAME
    kind = _OWN_MODELS.get(base.model_type)
    model = kind(base) if kind else MODEL_MAPPING[type(base)](base)
    decoder: Any = getattr(model, "language_model", None)
    check_layers(decoder, base.model_type)
    decoder.config._attn_implementation = ATTENTION_NAME
    return model
