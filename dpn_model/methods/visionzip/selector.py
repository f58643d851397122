"""VisionZip: dominant tokens by the class token's attention, the others merged by their keys (spec peer-methods 5.3).

Shape letters: I pictures, P tokens of the tower that take part (its class token first, if it does), D dominant ones,
R remaining ones, T targets among these and so means, O others, C width of the tower, H of one head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.probe import VisionProbe, level, tower_layer
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.visionzip.spec import VisionZipSettings, targets
from dpn_model.packing import ImageSpan


def build(settings: VisionZipSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=VisionZip(settings, host))


class VisionZip(Selector):
    """Works on the tower's features, so that the projector sees what is kept alone."""

    before_projector = True

    def __init__(self, settings: VisionZipSettings, host: Host) -> None:
        super().__init__()
        self.settings, self.positions = settings, settings.positions
        tower = host.base.vision_config
        self.head_width = tower.hidden_size // tower.num_attention_heads
        feature_layer = host.base.vision_feature_layer
        self.levels = (feature_layer,) if isinstance(feature_layer, int) else tuple(feature_layer)
        class_token = {level(index) for index in self.levels} if settings.class_token else set()
        self.looks = frozenset({tower_layer(-2), *class_token})

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """All pictures at once: they have the tower's own size."""
        patches = images[0].num_tokens
        dominant, contextual = self.settings.counts(patches)
        first = int(self.settings.class_token)
        tokens_IPC = tokens_VD.unflatten(0, (len(images), patches))
        with torch.no_grad():
            scores_IP = probe.cls_attention().sum(dim=1)
            keys_IPH = probe.keys().float().unflatten(2, (-1, self.head_width)).mean(dim=2)
        if first:
            class_IC = torch.cat([probe.level(index)[:, 0] for index in self.levels], dim=-1)
            tokens_IPC = torch.cat([class_IC[:, None].to(tokens_VD.dtype), tokens_IPC], dim=1)
            scores_IP = F.pad(scores_IP, (1, 0), value=torch.inf)
        order_IP = scores_IP.sort(dim=1, descending=True, stable=True).indices
        dominant_ID, rest_IR = order_IP[:, :dominant].sort().values, order_IP[:, dominant:].sort().values
        rows_ITC, target_IT, counts_IT = merged(tokens_IPC, keys_IPH[:, 1 - first :], rest_IR, contextual)
        made = torch.cat([_taken(tokens_IPC, dominant_ID), rows_ITC], dim=1)
        masses = torch.cat([torch.ones_like(dominant_ID, dtype=torch.float32), 1 + counts_IT], dim=1)
        # The class token stands at the place of the first patch.
        places = (torch.cat([dominant_ID, target_IT], dim=1) - first).clamp_min(0).cpu().numpy()
        return [ImageRows.given(*one) for one in zip(places, made, masses, strict=True)]

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """See `VisionZipSettings.macs`."""
        assert rows.made is not None
        return self.settings.macs(image.num_tokens, self.head_width, rows.made.shape[1])


def merged(tokens_IPC: Tensor, keys_IPH: Tensor, rest_IR: Tensor, contextual: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means over what is not dominant.

    Args:
        tokens_IPC: of the tower.
        keys_IPH: their keys, mean over heads.
        rest_IR: which are not dominant, ascending.
        contextual: how many means (T).

    Returns:
        float[I, T, C]: each target plus the mean of those that are nearest to it by key; int64[I, T]: the targets;
        float32[I, T]: how many joined each.
    """
    at = np.fromiter(targets(rest_IR.shape[1], contextual), np.int64)
    device = rest_IR.device
    target_IT = rest_IR[:, torch.from_numpy(at).to(device)]
    other_IO = rest_IR[:, torch.from_numpy(np.setdiff1d(np.arange(rest_IR.shape[1]), at)).to(device)]
    if not contextual:
        return _taken(tokens_IPC, target_IT), target_IT, target_IT.float()
    unit_IPH = F.normalize(keys_IPH, dim=-1)
    cosines_IOT = _taken(unit_IPH, other_IO) @ _taken(unit_IPH, target_IT).transpose(1, 2)
    joins_IOT = torch.zeros_like(cosines_IOT).scatter(2, cosines_IOT.argmax(dim=2, keepdim=True), 1.0)
    counts_IT = joins_IOT.sum(dim=1)
    sums_ITC = joins_IOT.transpose(1, 2) @ _taken(tokens_IPC, other_IO).float()
    means_ITC = (sums_ITC / counts_IT.clamp_min(1)[:, :, None]).to(tokens_IPC.dtype)
    return _taken(tokens_IPC, target_IT) + means_ITC, target_IT, counts_IT


def _taken(rows_IPC: Tensor, chosen_IK: Tensor) -> Tensor:
    """float[I, K, C] of float[I, P, C]."""
    return rows_IPC.gather(1, chosen_IK[:, :, None].expand(-1, -1, rows_IPC.shape[2]))
