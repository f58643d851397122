"""The configuration that bases with two towers on one picture share: LLaVA-HR's and ChatRex's."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


class TwoTowersConfig(PreTrainedConfig):
    """A fast tower (CLIP), a slow one (ConvNeXt) and a decoder.

    Args:
        vision_config: CLIP, the fast tower.
        slow_vision_config: ConvNeXt, the slow tower.
        text_config: the decoder, with its `model_type` where that is not llama.
        image_size: side of the one picture both towers see, in pixels.
        image_token_index: id that stands for one visual token; it is never embedded.
    """

    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig, "slow_vision_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        slow_vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = 0,
        image_token_index: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _resolved(vision_config, "clip_vision_model")
        self.slow_vision_config = _resolved(slow_vision_config, "convnext")
        self.text_config = _resolved(text_config, "llama")
        self.image_size = image_size
        self.image_token_index = image_token_index
        super().__init__(**kwargs)

    @property
    def image_token_id(self) -> int:
        """transformers' other name of `image_token_index`."""
        return self.image_token_index


def _resolved(config: dict[str, Any] | PreTrainedConfig | None, kind: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    found: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type", kind), **values)
    return found
