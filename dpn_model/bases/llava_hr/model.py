"""LLaVA-HR without a head: two vision towers, projector, decoder, composed as transformers composes LLaVA."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from dpn_model.bases.llava_hr.config import LlavaHrConfig
from dpn_model.bases.llava_hr.multipath import MultipathTower, check_adapter_layers, fast_image_size


class LlavaHrModel(PreTrainedModel):
    """`vision_tower`, `multi_modal_projector` and `language_model`, as in transformers' `LlavaModel`.

    Raises:
        ValueError: `adapter_layers` that CLIP does not have.
    """

    config_class = LlavaHrConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: LlavaHrConfig) -> None:
        super().__init__(config)
        check_adapter_layers(config.adapter_layers, config.vision_config.num_hidden_layers)
        self.vision_tower = MultipathTower(
            config.vision_config, config.slow_vision_config, config.image_size, config.adapter_layers
        )
        self.multi_modal_projector: nn.Module = LlavaMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()
        # transformers' initialisation visits the adapters' convolutions one by one, not the adapters.
        self.vision_tower.reset_adapters()

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """float[I, 3, S, S] to `pooler_output`: one float[V, D] of projected tokens per picture, row-major."""
        tokens: Tensor = self.multi_modal_projector(self.vision_tower(pixel_values))
        return BaseModelOutputWithPooling(pooler_output=list(tokens))


def image_grid(config: LlavaHrConfig) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width): 32x32 at 1024 pixels."""
    size = fast_image_size(config.vision_config, config.slow_vision_config, config.image_size)
    side = size // config.vision_config.patch_size
    return side, side
