"""What a user may decide in the router's place: a fixed route, or a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpn_model.cost.flops import DecoderShape
from dpn_model.methods.dpn.budget import Dial
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.dpn.threshold import Routes, Threshold

if TYPE_CHECKING:
    from dpn_model.methods.dpn.reducer import DynamicPoolingExperts


class DpnSteering:
    """Routes and the dial of some sites; see `contract.Steering`."""

    def __init__(self, settings: DpnSettings, sites: Sequence[DynamicPoolingExperts]) -> None:
        self.settings = settings
        self.sites = tuple(sites)

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force one expert per site for every sample; None: the router decides again.

        Raises:
            ValueError: a wrong number of sites, or a kernel that is not among a site's experts.
        """
        if route is None:
            for site in self.sites:
                site.forced_expert = None
            return
        if len(route) != len(self.sites):
            raise ValueError(f"route {list(route)} names {len(route)} sites; this model has {len(self.sites)}")
        for number, (site, name) in enumerate(zip(self.sites, route, strict=True)):
            if name not in site.expert_names:
                raise ValueError(f"route[{number}] = {name!r}; allowed: {', '.join(site.expert_names)}")
        for site, name in zip(self.sites, route, strict=True):
            site.forced_expert = site.expert_names.index(name)

    def turned(self, dial: Mapping[str, Any], flops_ratio: float | None) -> Mapping[str, Any]:
        """The dial, turned.

        Raises:
            ValueError: a ratio that is out of reach.
        """
        return Dial.from_dict(dict(dial)).at(flops_ratio).to_dict()

    def set_dial(self, dial: Mapping[str, Any] | None, decoder: DecoderShape) -> None:
        """Take a dial as it stands.

        Raises:
            ValueError: a dial that this version cannot turn.
        """
        known = None if dial is None else Dial.from_dict(dict(dial))
        bias = 0.0 if known is None else known.bias()
        for number, site in enumerate(self.sites):
            site.threshold = None
            if known is not None and bias:  # at 0 every sample takes the router's own route
                layers, kernels = (tuple(getattr(each, name) for each in self.sites) for name in ("layer", "kernels"))
                rounding, least = self.settings.rounding, self.settings.min_tokens
                routes = Routes(decoder, known.convention, layers, kernels, rounding, least)
                site.threshold = Threshold(bias, number, routes)
