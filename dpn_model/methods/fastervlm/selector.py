"""FasterVLM's ranking: the class token's attention at CLIP's layer -2, mean over heads (spec peer-methods 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.fastervlm.spec import FasterVlmSettings
from dpn_model.methods.keeping import BestPatches
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.settings import kept_count
from dpn_model.packing import ImageSpan


def build(settings: FasterVlmSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=FasterVlm(settings))


class FasterVlm(BestPatches):
    """Chooses behind the projector, as the authors' code does; which side makes no difference to what is chosen."""

    looks = frozenset({tower_layer(-2)})

    def __init__(self, settings: FasterVlmSettings) -> None:
        super().__init__()
        self.keep = settings.keep

    def count(self, tokens: int) -> int:
        """T."""
        return kept_count(self.keep, tokens)

    def scores(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[Tensor]:
        """Mean over heads."""
        return list(probe.cls_attention().mean(dim=1))
