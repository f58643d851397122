"""Configuration of LLaVA-HR: LLaVA's, with a second vision tower and the adapters between them (spec base-models C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, CLIPVisionConfig, ConvNextConfig, LlamaConfig, PreTrainedConfig

IMAGE_SIZE = 1024
#: CLIP blocks after which an adapter acts
ADAPTER_LAYERS = (6, 12, 18)


class LlavaHrConfig(PreTrainedConfig):
    """Configuration of `LlavaHrModel`.

    Args:
        vision_config: CLIP, the fast tower.
        slow_vision_config: ConvNeXt, the slow tower.
        text_config: the decoder.
        image_size: side of the one picture both towers see, in pixels.
        adapter_layers: CLIP blocks (1-based) that are followed by an adapter; empty where both towers are frozen.
        image_token_index: id that stands for one visual token; it is never embedded.
    """

    model_type = "llava_hr"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig, "slow_vision_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        slow_vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = IMAGE_SIZE,
        adapter_layers: Sequence[int] = ADAPTER_LAYERS,
        image_token_index: int = 32000,
        projector_hidden_act: str = "gelu",
        **kwargs: Any,
    ) -> None:
        self.vision_config = _resolve(vision_config, CLIPVisionConfig)
        self.slow_vision_config = _resolve(slow_vision_config, ConvNextConfig)
        self.text_config = _resolve(text_config, LlamaConfig)
        self.image_size = image_size
        self.adapter_layers = list(adapter_layers)
        self.image_token_index = image_token_index
        self.projector_hidden_act = projector_hidden_act
        #: read by transformers' projector: one feature layer, with biases
        self.vision_feature_layer = -1
        self.multimodal_projector_bias = True
        super().__init__(**kwargs)

    @property
    def image_token_id(self) -> int:
        """transformers' other name of `image_token_index`."""
        return self.image_token_index


def _resolve(config: dict[str, Any] | PreTrainedConfig | None, kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    values = {key: value for key, value in (config or {}).items() if key != "model_type"}
    return kind(**values)
