"""The method attached to a model: its parts, and what a user may decide in its place. A mixin of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from dpn_model.bases.shapes import model_shape
from dpn_model.bases.vision.contract import ImageSide
from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.bases.vision.projected import ProjectedImages
from dpn_model.configuration import DpnConfig
from dpn_model.cost.bill import ModelShape
from dpn_model.methods.contract import Host, LayerPatch, Parts, Projector, Steering, TokenReducer
from dpn_model.methods.probe import is_of_tower
from dpn_model.methods.registry import find_method, methods_with, settings_of
from dpn_model.methods.settings import MethodSettings


class MethodParts:
    """`configure_method`, `set_route`, `set_budget`, `join_ranks`; for models with `config`, `model` and `lm_head`."""

    config: DpnConfig
    model: Any
    lm_head: nn.Linear
    training: bool
    parts: Parts
    image_side: ImageSide
    model_shape: ModelShape
    joins_ranks = False
    #: what a method's projector stands in place of; () where it was never loaded
    _bases_projector: tuple[nn.Module, ...] = ()
    make_room_for_router: Callable[[], None]

    def configure_method(self, method: MethodSettings | Mapping[str, Any]) -> None:
        """Attach a method to the loaded base, in place of what was attached. What it learns starts fresh.

        A projector alone stays as it was learned, where the loaded model came with one of the same method and sizes:
        it is the base's own by then, as after the first stage of training.

        Raises:
            ValueError: unknown method or setting, settings that do not fit the base, or another projector than that
                which the loaded model came with.
        """
        settings = method if isinstance(method, MethodSettings) else settings_of(method)
        base, language_model = self.config.base, self.model.language_model
        text_config = language_model.config
        try:
            grid = image_side_of(base).fixed_grid()
        except ValueError:
            grid = None
        shape, layers = model_shape(base), tuple(language_model.layers)
        host = Host(
            text_config.num_hidden_layers, text_config.hidden_size, base, grid, shape.vision_size, shape, layers
        )
        spec = find_method(settings.name)
        spec.check(base)
        parts = spec.build(settings, host)
        looks = sorted({look for part in parts.all() for look in part.looks if is_of_tower(look)})
        if looks and not image_side_of(base).shows_layers:
            raise ValueError(
                f"name = {settings.name}: it looks at {', '.join(looks)} of the tower; {base.model_type} does not show "
                "that; allowed: bases of kind llava"
            )
        for part in parts.all():
            _start_fresh(part)
            part.to(self.lm_head.weight)
        self._keep_learned_projector(settings, parts)
        self.attach(settings, parts)
        if self.needs_router_token:
            self.make_room_for_router()

    def attach(self, settings: MethodSettings, parts: Parts) -> None:
        """Put parts in place of those that are there, with what they have learned; the dial is forgotten."""
        self._detach(parts.projector)
        self.parts = parts
        self.reducers = nn.ModuleDict({str(layer): part for layer, part in parts.reducers.items()}).train(self.training)
        self.patches = nn.ModuleDict({str(layer): part for layer, part in parts.patches.items()}).train(self.training)
        self.selector = parts.selector
        if parts.selector is not None:
            parts.selector.train(self.training)
        base = self.config.base
        self._attach(image_side_of(base), model_shape(base))
        self.config.method = settings.to_dict()
        self.set_dial(None)
        self.join_ranks(self.joins_ranks)

    def _attach(self, side: ImageSide, shape: ModelShape) -> None:
        """What parts change in the base: its projector and grid, its FFNs."""
        projector = self.parts.projector
        if projector is not None:
            side = ProjectedImages(side, projector)
            earlier = self.model.multi_modal_projector
            if not isinstance(earlier, Projector):
                self._bases_projector = (earlier,)  # in a tuple: it is no part of the model now
            self.model.multi_modal_projector = projector.train(self.training)
        self.image_side, self.model_shape = side, shape
        for layer, patch in self.parts.patches.items():
            if patch.replaces_ffn:
                dense = self.model.language_model.layers[layer - 1].mlp
                # On the instance: names of parameters stay, and layers that are recomputed run it too.
                dense.forward = partial(_patched_ffn, patch, type(dense).forward.__get__(dense))

    def _keep_learned_projector(self, settings: MethodSettings, parts: Parts) -> None:
        earlier: Parts | None = getattr(self, "parts", None)
        if earlier is None or earlier.projector is None or parts.projector is None or self._bases_projector:
            return
        learned, fresh = (one.projector.state_dict(keep_vars=True) for one in (earlier, parts) if one.projector)
        shapes = [{name: tensor.shape for name, tensor in one.items()} for one in (learned, fresh)]
        if self.config.method["name"] == settings.name and shapes[0] == shapes[1]:
            parts.projector.load_state_dict(learned, assign=True)

    def _detach(self, following: Projector | None) -> None:
        """Leave the base as it was, for parts with the projector `following`."""
        earlier: Parts | None = getattr(self, "parts", None)
        if earlier is None:
            return
        if earlier.projector is not None and not self._bases_projector:
            weights = [[] if one is None else [*map(id, one.parameters())] for one in (earlier.projector, following)]
            if weights[0] != weights[1]:
                raise ValueError("this model was made with a projector of its own; load its base to change the method")
        elif earlier.projector is not None:
            self.model.multi_modal_projector = self._bases_projector[0].to(self.lm_head.weight)
        for layer, patch in earlier.patches.items():
            if patch.replaces_ffn:
                del self.model.language_model.layers[layer - 1].mlp.forward

    def reducers_by_layer(self) -> dict[int, TokenReducer]:
        """The method's reducer of every site, keyed by 1-based layer."""
        return self.parts.reducers

    @property
    def needs_router_token(self) -> bool:
        """Whether prompts must be encoded with `<ROUTER>`."""
        return any(part.needs_router_token for part in self.parts.all())

    @property
    def needs_sample_keys(self) -> bool:
        """Whether something is drawn at inference (`dpn_model.sample_keys`)."""
        return any(part.needs_sample_keys for part in self.parts.all())

    def tell_progress(self, share: float | None) -> None:
        """Which share of the training is done, for parts that follow a schedule; None: nobody knows."""
        for part in self.parts.all():
            part.progress = share

    def join_ranks(self, joins: bool) -> None:
        """Whether evaluation runs every module whatever the batch holds, as training does (`contract.Part`).

        For weights that are sharded over ranks (ZeRO-3), of which one may have pictures and another none.
        """
        self.joins_ranks = joins
        for part in self.parts.all():
            part.joins_ranks = joins

    def _steering(self, what: str) -> Steering:
        if self.parts.steering is None:
            able = methods_with("has_dial")
            told = f"{', '.join(able)} {'has' if len(able) == 1 else 'have'}"
            raise ValueError(f"method {self.config.method['name']} has no {what}; only {told}")
        return self.parts.steering

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force one choice per site for every sample (None: the method decides again, within a budget if one is set).

        Raises:
            ValueError: a method that chooses nothing, a wrong number of sites, or a choice that a site does not have.
        """
        if route is not None or self.parts.steering is not None:
            self._steering("routes").set_route(route)

    def set_budget(self, flops_ratio: float | None) -> None:
        """Turn the dial: at inference the mean FLOPs ratio of samples like the calibration's becomes `flops_ratio`.

        It moves the threshold and keeps the router's order: at the router's own mean ratio (`Dial.router_ratio`) every
        sample takes the route it takes without a budget, and no sample costs more under a smaller budget than under a
        larger one. Every sample is decided by itself: its answer does not depend on its batch. The setting is saved
        with the model. None: the router decides alone.

        Raises:
            ValueError: a method without a dial, not calibrated, or a ratio that is out of reach.
        """
        steering = self._steering("budget dial")
        if self.config.dial is None:
            raise ValueError("the budget dial is not calibrated; call dpn_model.calibrate(model, samples) first")
        self.set_dial(steering.turned(self.config.dial, flops_ratio))
        self.set_route(None)

    def set_dial(self, dial: Mapping[str, Any] | None) -> None:
        """Take a calibrated dial as it stands, as plain data (None: forget it).

        Raises:
            ValueError: a dial for a method that has none.
        """
        self.config.dial = None if dial is None else dict(dial)
        if dial is not None or self.parts.steering is not None:
            self._steering("budget dial").set_dial(dial, self.model_shape.decoder)


def _start_fresh(module: Any) -> None:
    """What says how it begins does so, for everything in it."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    for child in module.children():
        _start_fresh(child)


def _patched_ffn(patch: LayerPatch, dense: Any, hidden: Tensor) -> Tensor:
    return patch.ffn(hidden, dense)
