"""ChatRex without a head and without objects: CLIP and ConvNeXt side by side, projector, decoder (spec chatrex 1.1).

Composed as transformers composes LLaVA. Shape letters: I images, S side of the input in pixels, V visual tokens of a
picture, D model width, C_f channels of the fast tower (CLIP), C_s of the slow one (ConvNeXt).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import AutoConfig, AutoModel, CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, PreTrainedConfig
from transformers import PreTrainedModel as TheirModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from dpn_model.bases.chatrex.shape import IMAGE_SIZE, feature_width, image_grid
from dpn_model.bases.towers.convnext import timm_convnext

#: whose grid is that of ConvNeXt at `IMAGE_SIZE`
_FAST = {"image_size": 336, "patch_size": 14}


class ChatRexConfig(PreTrainedConfig):
    """Configuration of `ChatRexModel`.

    Args:
        vision_config: CLIP, the fast tower.
        slow_vision_config: ConvNeXt, the slow tower.
        text_config: the decoder, with its `model_type`: llama (the released weights) or qwen2 (the paper's).
        image_size: side of the padded picture, in pixels; ConvNeXt's last stage must have CLIP's grid there.
        vision_feature_layer: of CLIP.
        image_token_index: id that stands for one visual token; it is never embedded.
    """

    model_type = "chatrex"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig, "slow_vision_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        slow_vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = IMAGE_SIZE,
        vision_feature_layer: int = -2,
        image_token_index: int = 32105,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _resolved(vision_config or _FAST, "clip_vision_model")
        self.slow_vision_config = _resolved(slow_vision_config, "convnext")
        self.text_config = _resolved(text_config, "llama")
        self.image_size = image_size
        self.vision_feature_layer = vision_feature_layer
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


class ChatRexModel(TheirModel):
    """`vision_tower`, `multi_modal_projector` and `language_model`, as in transformers' `LlavaModel`.

    Raises:
        ValueError: towers of different grids.
    """

    config_class = ChatRexConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: ChatRexConfig) -> None:
        super().__init__(config)
        image_grid(config)
        width = config.text_config.hidden_size
        fast, slow = config.vision_config, config.slow_vision_config
        assert isinstance(fast, CLIPVisionConfig)
        assert isinstance(slow, ConvNextConfig)
        self.vision_tower = SideBySideTower(fast, slow, config.vision_feature_layer)
        self.multi_modal_projector: nn.Module = nn.Sequential(
            nn.Linear(feature_width(config), width), nn.GELU(), nn.Linear(width, width)
        )
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """float[I, 3, S, S] to `pooler_output`: one float[V, D] of projected tokens per picture, row-major."""
        tokens: Tensor = self.multi_modal_projector(self.vision_tower(pixel_values))
        return BaseModelOutputWithPooling(pooler_output=list(tokens))


class SideBySideTower(nn.Module):
    """One padded picture in, one token per cell of CLIP's grid out: both towers' channels, CLIP's first.

    Args:
        fast: CLIP's configuration; it sees the same normalised picture, resized to its own size.
        slow: ConvNeXt's configuration.
        feature_layer: of CLIP, whose class token is dropped.
    """

    def __init__(self, fast: CLIPVisionConfig, slow: ConvNextConfig, feature_layer: int) -> None:
        super().__init__()
        self.feature_layer = feature_layer
        self.fast = CLIPVisionModel(fast)
        self.slow = timm_convnext(slow)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float[I, 3, S, S] to float[I, V, C_f + C_s]."""
        slow = self.slow_features(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([self.fast_features(pixel_values), slow], dim=-1)

    def slow_features(self, pixel_values: Tensor) -> Tensor:
        """float[I, C_s, S / 32, S / 32], ConvNeXt's last stage."""
        kind = next(self.slow.parameters()).dtype
        features: Tensor = self.slow(pixel_values.to(kind)).last_hidden_state
        return features

    def fast_features(self, pixel_values: Tensor) -> Tensor:
        """float[I, V, C_f]; the picture is made smaller without antialiasing, as the authors do."""
        embeddings = self.fast.embeddings
        small = interpolate(pixel_values, size=(embeddings.image_size,) * 2, mode="bilinear", align_corners=False)
        seen = self.fast(small.to(embeddings.patch_embedding.weight.dtype), output_hidden_states=True)
        features: Tensor = seen.hidden_states[self.feature_layer][:, 1:]
        return features
