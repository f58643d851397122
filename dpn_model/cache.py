"""KV cache whose length differs per layer and per sample: layers after a reduction hold fewer tokens.

Shape letters: B samples, T packed tokens, N heads, H head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpn_model.packing import contiguous_positions


class PackedCache:
    """Keys and values of every layer, float[B, N, longest, H], with the lengths of each layer on the host.

    transformers' attention modules call `update` with the packed rows of one layer. The first call of a layer is its
    prefill: rows are stored and returned as they are. Later calls append one row per sample and return the whole.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens
        self.lengths: dict[int, list[int]] = {}
        #: per layer int64[B] or int64[B, 3], rotary position of the token that comes next
        self.next_positions: dict[int, Tensor] = {}
        self._prefill_lengths: tuple[int, ...] = ()
        self._prefill_next = torch.empty(0, dtype=torch.long)
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def set_prefill(self, lengths: tuple[int, ...], next_positions: Tensor) -> None:
        """Tokens per sample in the layers that run next, and the rotary position behind each sample's last."""
        self._prefill_lengths = lengths
        self._prefill_next = next_positions

    def longest(self, layer_idx: int) -> int:
        """Slots of a layer's cache, used or not."""
        return self._keys[layer_idx].shape[2]

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Store float[1, N, T, H] rows of layer `layer_idx` (0-based); see the class for what is returned."""
        if layer_idx not in self._keys:
            self.lengths[layer_idx] = list(self._prefill_lengths)
            self.next_positions[layer_idx] = self._prefill_next
            self._keys[layer_idx] = self._spread(key)
            self._values[layer_idx] = self._spread(value)
            return key, value
        lengths = self.lengths[layer_idx]
        samples = torch.arange(len(lengths), device=key.device)
        slots = torch.tensor(lengths, device=key.device)
        self._keys[layer_idx][samples, :, slots] = key[0].transpose(0, 1)
        self._values[layer_idx][samples, :, slots] = value[0].transpose(0, 1)
        self.lengths[layer_idx] = [length + 1 for length in lengths]
        self.next_positions[layer_idx] = self.next_positions[layer_idx] + 1
        return self._keys[layer_idx], self._values[layer_idx]

    def _spread(self, packed: Tensor) -> Tensor:
        lengths = self._prefill_lengths
        slots = torch.from_numpy(contiguous_positions(lengths)).to(packed.device)
        samples = torch.repeat_interleave(
            torch.arange(len(lengths), device=packed.device), torch.tensor(lengths, device=packed.device)
        )
        heads, width = packed.shape[1], packed.shape[3]
        spread = packed.new_zeros(len(lengths), heads, max(lengths) + self.max_new_tokens, width)
        spread[samples, :, slots] = packed[0].transpose(0, 1)
        return spread
