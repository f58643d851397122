"""Settings, plan and search space of HiDrop (arXiv 2602.23699; spec peer-methods 6.8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import LayerLoad, Ledger, Rows
from dpn_model.methods.probe_cost import next_attention_macs
from dpn_model.methods.settings import Positions, SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows

#: where filters stand between injection and exit: layers 10, 14, 16 and 18 between 8 and 24
_FILTERS = (2 / 16, 6 / 16, 8 / 16, 10 / 16)


class Window(NamedTuple):
    """Where visual tokens live: layers up to `inject` do not run them, those behind `exit` have none (None: all do).

    `filters`: by site, ascending, the share (or number) of a picture's own tokens that is left behind it.
    """

    inject: int
    filters: dict[int, float]
    exit: int | None

    def left(self, tokens: int) -> dict[int, int]:
        """Of a picture of `tokens`, how many are left behind each site."""
        kept = {site: kept_count(keep, tokens) for site, keep in self.filters.items()}
        return kept if self.exit is None else {**kept, self.exit: 0}


@dataclass(frozen=True)
class HiDropSettings(SitedSettings):
    """Settings of HiDrop.

    The paper names injection, filters and exit for 32 layers and a mean of about 64 tokens. With `keep` and `ratio` as
    they are here, 576 tokens become 144, 72, 36 and 18, a mean of 64.1.

    Attributes:
        sites: of the filters; None: the authors' four, scaled to the window and the depth.
        positions: rows keep theirs, text in front of the injection too.
        inject: layers that visual tokens bypass; None: a quarter of the depth.
        exit: layer behind which no visual token is left; None: three quarters of the depth; 0: they stay.
        keep: behind the first filter.
        ratio: kept at each later filter of what was kept before.
        ratios: shares of a picture's own tokens, one per entry of `sites`, in place of `keep` and `ratio`.
    """

    name: ClassVar[str] = "hidrop"
    sites: tuple[int, ...] | None = setting(None, "filters, after these layers; default 10, 14, 16, 18 of 32", ge=1)
    positions: Positions = setting("keep", "rotary positions behind a filter: kept, or renumbered")
    inject: int | None = setting(None, "layers that visual tokens bypass; default a quarter of the depth", ge=0)
    exit: int | None = setting(None, "layer behind which none is left; default 3/4 of the depth; 0: they stay", ge=0)
    keep: float = keep_setting(0.25, "share of visual tokens left behind the first filter; above 1, their number")
    ratio: float = setting(0.5, "kept at each later filter of what was kept before", gt=0, le=1)
    ratios: tuple[float, ...] | None = setting(
        None, "shares of a picture's own tokens left behind each filter", per_site="keep", gt=0, le=1
    )

    def window(self, num_layers: int) -> Window:
        """Where visual tokens live in a decoder of `num_layers`.

        Raises:
            ValueError: layers in no order, or shares that grow with depth.
        """
        inject = round(num_layers / 4) if self.inject is None else self.inject
        last = round(3 * num_layers / 4) if self.exit is None else self.exit
        end = last or num_layers
        if not inject < end <= num_layers or last == num_layers:
            raise ValueError(
                f"inject = {inject} and exit = {last}: allowed with {num_layers} layers: inject below exit, exit below "
                f"{num_layers}, or 0"
            )
        if self.sites is None:
            wanted = {max(inject + 1, round(inject + part * (end - inject))) for part in _FILTERS}
            sites = tuple(sorted(site for site in wanted if site < end))
        else:
            sites = self.resolve_sites(num_layers)
            if not inject < sites[0] <= sites[-1] < end:
                raise ValueError(f"sites = {list(self.sites)}: allowed: layers behind {inject} and before {end}")
        if self.ratios is not None:
            if self.sites is None and len(self.ratios) != len(sites):
                raise ValueError(f"ratios has {len(self.ratios)} entries; sites = {list(sites)} needs {len(sites)}")
            filters = self.spread("ratios", num_layers) if self.sites else dict(zip(sites, self.ratios, strict=True))
        else:
            filters = {site: self.keep * self.ratio**number for number, site in enumerate(sites)}
        shares = list(filters.values())
        if shares != sorted(shares, reverse=True):
            raise ValueError(f"ratios, by depth, are {shares}; what was dropped cannot come back: none may grow")
        return Window(inject, filters, last or None)


def plan(settings: HiDropSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same counts for every sample."""
    window, entered = settings.window(shape.decoder.num_layers), math.prod(image_rows(shape))
    left, visual, spent = window.left(entered), entered, 0
    loads = []
    for layer in range(1, shape.decoder.num_layers + 1):
        stream, text = Rows(visual, text_tokens), Rows(0, text_tokens)
        loads.append(LayerLoad(stream, text, text, text) if layer <= window.inject else LayerLoad.whole(stream))
        if layer in window.filters:
            spent += next_attention_macs(shape.decoder, 1, visual + text_tokens)
        visual = left.get(layer, visual)
    ledger = Ledger.of_layers(Rows(entered, text_tokens), loads, num_images=1, macs={"probe": spent} if spent else {})
    return Planned(ledger, ledger)


SPEC = MethodSpec(
    settings=HiDropSettings,
    label="HiDrop",
    plan=plan,
    parts="dpn_model.methods.hidrop.parts:build",
    search={"keep": Dimension("keep", 0.05, 0.6)},
    needs_training="stage 1+2",
    is_query_aware=True,
    budget=Dimension("keep", 0.01, 1.0),
)
