"""LLaVA-HR without a head: CLIP and ConvNeXt joined by adapters, projector, decoder (spec base-models C.1).

Composed as transformers composes LLaVA. Shape letters: I images, S side of the input in pixels, h, w the grid of visual
tokens, V all visual tokens, D model width, C_f channels of the fast tower (CLIP), C_s of the slow one (ConvNeXt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from dpn_model.bases.llava_hr.shape import ADAPTER_LAYERS, GATE_WIDTH, IMAGE_SIZE, fast_image_size
from dpn_model.bases.towers.convnext import timm_convnext
from dpn_model.bases.towers.two_towers import TwoTowersConfig


class LlavaHrConfig(TwoTowersConfig):
    """Configuration of `LlavaHrModel`.

    Args:
        image_size, image_token_index: see `TwoTowersConfig`.
        adapter_layers: CLIP blocks (1-based) that are followed by an adapter; empty where both towers are frozen.
        projector_hidden_act: of transformers' projector.
        kwargs: of `TwoTowersConfig`.
    """

    model_type = "llava_hr"

    def __init__(
        self,
        image_size: int = IMAGE_SIZE,
        adapter_layers: Sequence[int] = ADAPTER_LAYERS,
        image_token_index: int = 32000,
        projector_hidden_act: str = "gelu",
        **kwargs: Any,
    ) -> None:
        self.adapter_layers = list(adapter_layers)
        self.projector_hidden_act = projector_hidden_act
        #: read by transformers' projector: one feature layer, with biases
        self.vision_feature_layer = -1
        self.multimodal_projector_bias = True
        super().__init__(image_size=image_size, image_token_index=image_token_index, **kwargs)


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
        layers, last = config.adapter_layers, config.vision_config.num_hidden_layers
        if len(set(layers)) != len(layers) or not set(layers) <= set(range(1, last + 1)):
            raise ValueError(f"adapter_layers = {layers}; allowed: different CLIP blocks from 1 to {last}")
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


class MultipathTower(nn.Module):
    """One high-resolution picture in, one token per cell of CLIP's grid out.

    CLIP's class token is left out before its blocks, and all its blocks run: the feature layer of LLaVA-1.5 has no
    meaning here.

    Args:
        fast: CLIP's configuration.
        slow: ConvNeXt's configuration; `layer_norm_eps` holds for all its norms.
        image_size: S.
        adapter_layers: CLIP blocks (1-based) after which an adapter acts; empty for stage 1.
    """

    def __init__(
        self, fast: CLIPVisionConfig, slow: ConvNextConfig, image_size: int, adapter_layers: Sequence[int]
    ) -> None:
        super().__init__()
        self.adapter_layers = tuple(adapter_layers)
        self.fast_size = fast_image_size(fast, slow, image_size)
        self.fast = CLIPVisionModel(fast)
        self.slow = timm_convnext(slow)
        slow_width = slow.hidden_sizes[-1]
        self.adapters = nn.ModuleList(MixtureOfResolutionAdapter(fast.hidden_size, slow_width) for _ in adapter_layers)
        self.merge = FinalMerge(fast.hidden_size, slow_width)

    def reset_adapters(self) -> None:
        """Every adapter starts as the identity."""
        for adapter in self.adapters:
            cast(MixtureOfResolutionAdapter, adapter).reset_parameters()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float[I, 3, S, S] to tokens float[I, h * w, C_f]."""
        slow = self.slow_features(pixel_values)
        return self.merge(self.fast_features(pixel_values, slow), slow)

    def slow_features(self, pixel_values: Tensor) -> Tensor:
        """float[I, C_s, S / 32, S / 32], ConvNeXt's last stage."""
        return self.slow(pixel_values.to(self.merge.slow_proj.weight.dtype)).last_hidden_state

    def fast_features(self, pixel_values: Tensor, slow: Tensor) -> Tensor:
        """float[I, C_f, h, w], CLIP's last block, adapters included."""
        small = interpolate(pixel_values, size=(self.fast_size,) * 2, mode="bilinear", align_corners=True)
        embeddings = self.fast.embeddings
        patches = embeddings.patch_embedding(small.to(embeddings.patch_embedding.weight.dtype))
        grid = (patches.shape[-2], patches.shape[-1])
        hidden = patches.flatten(2).transpose(1, 2) + self._positions(grid)
        hidden = self.fast.pre_layrnorm(hidden)
        for number, layer in enumerate(self.fast.encoder.layers, start=1):
            hidden = layer(hidden, attention_mask=None)
            if number in self.adapter_layers:
                adapter = self.adapters[self.adapter_layers.index(number)]
                hidden = adapter(hidden.transpose(1, 2).unflatten(2, grid), slow).flatten(2).transpose(1, 2)
        return hidden.transpose(1, 2).unflatten(2, grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """float[h * w, C_f]: CLIP's table without the class token, resized (bicubic, antialiased) to the grid."""
        table = self.fast.embeddings.position_embedding.weight[1:]
        side = int(len(table) ** 0.5)
        if grid == (side, side):
            return table
        square = table.T.unflatten(1, (side, side))[None].float()
        resized = interpolate(square, size=grid, mode="bicubic", antialias=True)[0]
        return resized.flatten(1).T.to(table.dtype)


def align_grid(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """float[I, C, h, w] on another grid: averaged where it is finer, bilinear (corners aligned) where it is coarser.

    Raises:
        ValueError: neither grid is a whole multiple of the other.
    """
    height, width = features.shape[-2:]
    if (height, width) == grid:
        return features
    if height % grid[0] == 0 and width % grid[1] == 0:
        return avg_pool2d(features, (height // grid[0], width // grid[1]))
    if grid[0] % height == 0 and grid[1] % width == 0:
        return interpolate(features, size=grid, mode="bilinear", align_corners=True)
    raise ValueError(
        f"the slow tower's {height}x{width} grid does not fit the fast tower's {grid[0]}x{grid[1]}; "
        "one must be a whole multiple of the other (choose another image_size)"
    )


class MixtureOfResolutionAdapter(nn.Module):
    """Adds the slow tower's features to the fast tower's, by a gate of one scalar per image. Identity when fresh."""

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.slow_conv = nn.Conv2d(slow_width, slow_width, 1)
        self.slow_proj = nn.Conv2d(slow_width, fast_width, 1)
        self.fast_conv = nn.Conv2d(fast_width, fast_width, 7, padding=3, groups=fast_width)
        self.fast_proj = nn.Conv2d(fast_width, fast_width, 1)
        self.gate = nn.Sequential(nn.Linear(2 * fast_width, GATE_WIDTH), nn.GELU(), nn.Linear(GATE_WIDTH, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the convolutions, zero for both projections: the adapter starts as the identity."""
        for conv in (self.slow_conv, self.fast_conv):
            nn.init.xavier_uniform_(conv.weight)
        for projection in (self.slow_proj, self.fast_proj):
            nn.init.zeros_(projection.weight)
        for module in (self.slow_conv, self.fast_conv, self.slow_proj, self.fast_proj):
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, fast: Tensor, slow: Tensor) -> Tensor:
        """float[I, C_f, h, w] and float[I, C_s, h_s, w_s] to float[I, C_f, h, w].

        Raises:
            ValueError: the grids do not fit (`align_grid`).
        """
        detail = self.slow_proj(nn.functional.gelu(self.slow_conv(slow)))
        detail = align_grid(detail, (fast.shape[-2], fast.shape[-1]))
        fast = fast + self.fast_proj(nn.functional.gelu(self.fast_conv(fast)))
        means = torch.cat([fast, detail], dim=1).mean(dim=(2, 3))
        gate = self.gate(means).tanh()[:, :, None, None]
        return fast + gate * detail


class FinalMerge(nn.Module):
    """Sum of one linear map of each tower's features."""

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.fast_proj = nn.Linear(fast_width, fast_width)
        self.slow_proj = nn.Linear(slow_width, fast_width)

    def forward(self, fast: Tensor, slow: Tensor) -> Tensor:
        """float[I, C_f, h, w] and float[I, C_s, h_s, w_s] to tokens float[I, h * w, C_f], row-major."""
        slow = align_grid(slow, (fast.shape[-2], fast.shape[-1]))
        return self.fast_proj(fast.flatten(2).transpose(1, 2)) + self.slow_proj(slow.flatten(2).transpose(1, 2))
