"""The two towers of LLaVA-HR: CLIP on a small picture, ConvNeXt on the large one, and adapters (spec base-models C.1).

Shape letters: I images, S side of the input in pixels, h, w the grid of visual tokens, C_f width of CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, ConvNextModel

from dpn_model.bases.llava_hr.mixture_of_resolution import FinalMerge, MixtureOfResolutionAdapter


def slow_stride(config: ConvNextConfig) -> int:
    """Pixels per side of one cell of ConvNeXt's last stage: the stem's patch, doubled by every later stage."""
    return int(config.patch_size) * 2 ** (len(config.depths) - 1)


def fast_image_size(fast: CLIPVisionConfig, slow: ConvNextConfig, image_size: int) -> int:
    """Side of CLIP's picture: the one that gives ConvNeXt's grid, but never below the size CLIP was trained at."""
    return max(image_size // slow_stride(slow) * fast.patch_size, fast.image_size)


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
        self.slow = ConvNextModel(slow)
        # The towers' pooled outputs are not used: timm's feature extractor has no final norm.
        self.slow.layernorm = nn.Identity()
        for module in self.slow.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = slow.layer_norm_eps
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


def check_adapter_layers(adapter_layers: Sequence[int], num_layers: int) -> None:
    """Raises ValueError where an adapter's layer is not one of CLIP's, or is named twice."""
    bad = [layer for layer in adapter_layers if not 1 <= layer <= num_layers]
    if bad or len(set(adapter_layers)) != len(adapter_layers):
        raise ValueError(
            f"adapter_layers = {list(adapter_layers)}; allowed: different CLIP blocks from 1 to {num_layers}"
        )
