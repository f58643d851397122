"""What a user may decide in the router's place: a fixed route, or a budget.

A mixin of the model, which has `config` and `reducers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from dpn_model.configuration import DpnConfig
from dpn_model.cost.flops import DecoderShape
from dpn_model.methods.contract import TokenReducer
from dpn_model.methods.dpn.budget import Dial
from dpn_model.methods.dpn.reducer import DynamicPoolingExperts
from dpn_model.methods.dpn.threshold import Routes, Threshold


class Steering:
    """`set_route` and `set_budget`; the later call decides. `join_ranks` for a model that ranks share."""

    config: DpnConfig
    reducers: nn.ModuleDict
    joins_ranks = False

    def reducers_by_layer(self) -> dict[int, TokenReducer]:
        """The method's reducer of every site, keyed by 1-based layer."""
        return {int(layer): cast(TokenReducer, reducer) for layer, reducer in self.reducers.items()}

    @property
    def needs_router_token(self) -> bool:
        """Whether prompts must be encoded with `<ROUTER>`."""
        return any(reducer.needs_router_token for reducer in self.reducers_by_layer().values())

    @property
    def needs_sample_keys(self) -> bool:
        """Whether something is drawn at inference (`dpn_model.sample_keys`)."""
        return any(reducer.needs_sample_keys for reducer in self.reducers_by_layer().values())

    def join_ranks(self, joins: bool) -> None:
        """Whether evaluation runs every module whatever the batch holds, as training does (`TokenReducer`).

        For weights that are sharded over ranks (ZeRO-3), of which one may have pictures and another none.
        """
        self.joins_ranks = joins
        for reducer in self.reducers_by_layer().values():
            reducer.joins_ranks = joins

    def routed_sites(self, what: str) -> list[DynamicPoolingExperts]:
        """The model's routers, in order of depth.

        Raises:
            ValueError: the method has none, so it cannot have `what`.
        """
        reducers = list(self.reducers_by_layer().values())
        routed = [reducer for reducer in reducers if isinstance(reducer, DynamicPoolingExperts)]
        if not routed or len(routed) != len(reducers):
            raise ValueError(f"method {self.config.method['name']} has no {what}; only dpn has")
        return routed

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force one expert per site for every sample (None: the router decides again, within a budget if one is set).

        Raises:
            ValueError: no routers, a wrong number of sites, or a kernel that is not among a site's experts.
        """
        if route is None:
            for reducer in self.reducers_by_layer().values():
                if isinstance(reducer, DynamicPoolingExperts):
                    reducer.forced_expert = None
            return
        sites = self.routed_sites("routes")
        if len(route) != len(sites):
            raise ValueError(f"route {list(route)} names {len(route)} sites; this model has {len(sites)}")
        for number, (site, name) in enumerate(zip(sites, route, strict=True)):
            if name not in site.expert_names:
                raise ValueError(f"route[{number}] = {name!r}; allowed: {', '.join(site.expert_names)}")
        for site, name in zip(sites, route, strict=True):
            site.forced_expert = site.expert_names.index(name)

    def set_budget(self, flops_ratio: float | None) -> None:
        """Turn the dial: at inference the mean FLOPs ratio of samples like the calibration's becomes `flops_ratio`.

        It moves the threshold and keeps the router's order: at the router's own mean ratio (`Dial.router_ratio`) every
        sample takes the route it takes without a budget, and no sample costs more under a smaller budget than under a
        larger one. Every sample is decided by itself: its answer does not depend on its batch. The setting is saved
        with the model. None: the router decides alone.

        Raises:
            ValueError: a method without routers, not calibrated, or a ratio that is out of reach.
        """
        self.routed_sites("budget dial")
        if self.config.dial is None:
            raise ValueError("the budget dial is not calibrated; call dpn_model.calibrate(model, samples) first")
        self.set_dial(Dial.from_dict(self.config.dial).at(flops_ratio))
        self.set_route(None)

    def set_dial(self, dial: Dial | None) -> None:
        """Take a calibrated dial as it stands (None: forget it)."""
        self.config.dial = None if dial is None else dial.to_dict()
        sites = [reducer for reducer in self.reducers_by_layer().values() if isinstance(reducer, DynamicPoolingExperts)]
        bias = 0.0 if dial is None else dial.bias()
        for number, site in enumerate(sites):
            site.threshold = None
            if dial is not None and bias:  # at 0 every sample takes the router's own route
                shape = DecoderShape.from_config(self.config.get_text_config())
                layers, kernels = tuple(each.layer for each in sites), tuple(each.kernels for each in sites)
                settings = self.config.method_settings
                routes = Routes(shape, dial.convention, layers, kernels, settings.rounding, settings.min_tokens)
                site.threshold = Threshold(bias, number, routes)
