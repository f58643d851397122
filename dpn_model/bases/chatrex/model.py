"""ChatRex without a head: CLIP and ConvNeXt side by side, two projectors, decoder (spec chatrex 1.1).

Composed as transformers composes LLaVA. Shape letters: I images, S side of the input in pixels, V visual tokens of a
picture, D model width, C_f channels of the fast tower (CLIP), C_s of the slow one (ConvNeXt).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, PreTrainedConfig
from transformers import PreTrainedModel as TheirModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from dpn_model.bases.chatrex.shape import IMAGE_SIZE, feature_width, image_grid, object_width
from dpn_model.bases.towers.convnext import timm_convnext
from dpn_model.bases.towers.two_towers import TwoTowersConfig

#: whose grid is that of ConvNeXt at `IMAGE_SIZE`
_FAST = {"image_size": 336, "patch_size": 14}


class ChatRexConfig(TwoTowersConfig):
    """Configuration of `ChatRexModel`; the decoder is llama (the released weights) or qwen2 (the paper's).

    Args:
        vision_config, kwargs: see `TwoTowersConfig`.
        image_size: side of the padded picture, in pixels; ConvNeXt's last stage must have CLIP's grid there.
        vision_feature_layer: of CLIP.
        image_token_index: id that stands for one visual token; it is never embedded.
        object_token_index: id that stands for an object's features; it is never embedded.
    """

    model_type = "chatrex"

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = IMAGE_SIZE,
        vision_feature_layer: int = -2,
        image_token_index: int = 32105,
        object_token_index: int = 32106,
        **kwargs: Any,
    ) -> None:
        self.vision_feature_layer = vision_feature_layer
        self.object_token_index = object_token_index
        super().__init__(vision_config or _FAST, image_size=image_size, image_token_index=image_token_index, **kwargs)


class ChatRexModel(TheirModel):
    """`vision_tower`, two projectors and `language_model`, as in transformers' `LlavaModel`.

    Raises:
        ValueError: towers of different grids, or maps whose channels a box's embedding cannot fill.
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
        self.multi_modal_projector: nn.Module = _projector(feature_width(config), width)
        self.object_projector = _projector(object_width(config), width)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """float[I, 3, S, S] to `pooler_output`: one float[V, D] of projected tokens per picture, row-major."""
        tokens: Tensor = self.multi_modal_projector(self.vision_tower(pixel_values))
        return BaseModelOutputWithPooling(pooler_output=list(tokens))


def _projector(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))


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
        return self.merged(pixel_values, self.slow_maps(pixel_values)[-1])

    def merged(self, pixel_values: Tensor, slow: Tensor) -> Tensor:
        """The same, with ConvNeXt's last map, float[I, C_s, S / 32, S / 32], at hand."""
        return torch.cat([self.fast_features(pixel_values), slow.flatten(2).transpose(1, 2)], dim=-1)

    def slow_maps(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """float[I, C, S / stride, S / stride] of each of ConvNeXt's stages, the finest first."""
        kind = next(self.slow.parameters()).dtype
        maps: tuple[Tensor, ...] = self.slow(pixel_values.to(kind), output_hidden_states=True).hidden_states
        return maps[1:]  # behind the embeddings

    def fast_features(self, pixel_values: Tensor) -> Tensor:
        """float[I, V, C_f]; the picture is made smaller without antialiasing, as the authors do."""
        embeddings = self.fast.embeddings
        small = interpolate(pixel_values, size=(embeddings.image_size,) * 2, mode="bilinear", align_corners=False)
        seen = self.fast(small.to(embeddings.patch_embedding.weight.dtype), output_hidden_states=True)
        features: Tensor = seen.hidden_states[self.feature_layer][:, 1:]
        return features
