"""DpnForConditionalGeneration: a LLaVA whose decoder runs packed, with a token-reduction method attached.

Parameter names are those of transformers' `LlavaForConditionalGeneration` (`model.*`, `lm_head.*`), so its weights load
unchanged; the method adds `reducers.<layer>.*`.

Shape letters: B samples, S padded length, T packed tokens, I images, V visual tokens of one image, D model width,
C vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from dpn_model.bases.attach import build_base_model
from dpn_model.cache import PackedCache
from dpn_model.configuration import DpnConfig
from dpn_model.decoder import run_decode_step, run_decoder
from dpn_model.method import Method
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.packing import PackedSequence, TokenKind
from dpn_model.pyramid.dynamic import DynamicPoolingExperts
from dpn_model.pyramid.router import Router
from dpn_model.pyramid.routing_loss import routing_loss
from dpn_model.reduction import TokenReducer
from dpn_model.registry import build_reducers
from dpn_model.vision.image_side import image_side_of, insert_images
from dpn_model.weights.check import load_checked
from dpn_model.weights.folder import load_folder, save_folder

IGNORE_INDEX = -100


class DpnForConditionalGeneration(PreTrainedModel):
    """transformers' conventions outside (padded ids and masks), packed execution inside."""

    config_class = DpnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: DpnConfig) -> None:
        super().__init__(config)
        base = config.base
        self.model = build_base_model(base)
        self.lm_head = nn.Linear(base.text_config.hidden_size, base.text_config.vocab_size, bias=False)
        self.reducers = nn.ModuleDict()
        self.last_routing: RoutingReport | None = None
        self.image_side = image_side_of(base)
        self.image_token_id = base.image_token_id
        self.post_init()
        self.configure_method(config.method_settings)

    def _init_weights(self, module: nn.Module) -> None:
        """Routers have their own initialisation; the base's modules keep transformers' rules."""
        if not isinstance(module, Router):
            super()._init_weights(module)

    def configure_method(self, method: Method) -> None:
        """Attach `method` to the loaded base, in place of what was attached. Routers start fresh.

        Raises:
            ValueError: unknown method, or sites that do not fit the decoder.
        """
        text_config = self.model.language_model.config
        reducers = build_reducers(method, text_config.num_hidden_layers, text_config.hidden_size)
        for reducer in reducers.values():
            for module in reducer.modules():
                if isinstance(module, Router):
                    module.reset_parameters()
        like = self.lm_head.weight
        self.reducers = nn.ModuleDict({str(layer): reducer for layer, reducer in reducers.items()}).to(
            like.device, like.dtype
        )
        self.config.method = method.to_dict()

    def _reducers(self) -> dict[int, TokenReducer]:
        return {int(layer): cast(TokenReducer, reducer) for layer, reducer in self.reducers.items()}

    @property
    def needs_router_token(self) -> bool:
        """Whether prompts must be encoded with `<ROUTER>`."""
        return any(reducer.needs_router_token for reducer in self._reducers().values())

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> DpnForConditionalGeneration:
        """Load a folder of ours, of transformers (LLaVA, Qwen-VL) or of the authors of LLaVA, LLaVA-HR and DPN.

        A base without a method is dense until one is configured. Nothing but tensors is unpickled. Raises
        FileNotFoundError, or ValueError naming missing, unexpected or misshapen keys.
        """
        config, state = load_folder(Path(folder))
        model = cls(config)
        load_checked(model, state, str(folder))
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, state_dict: Mapping[str, Tensor] | None = None, **_: Any) -> None:
        """Write configuration and weights (or a consolidated `state_dict`) as a from_pretrained folder."""
        save_folder(Path(folder), self.config, self.state_dict() if state_dict is None else state_dict)

    def set_route(self, route: Sequence[str] | None) -> None:
        """Force one expert per site for every sample (None: the router decides again).

        Raises:
            ValueError: a wrong number of sites, or a kernel that is not among the site's experts.
        """
        reducers = list(self._reducers().values())
        if route is not None and len(route) != len(reducers):
            raise ValueError(f"route {list(route)} names {len(route)} sites; this model has {len(reducers)}")
        for number, reducer in enumerate(reducers):
            if not isinstance(reducer, DynamicPoolingExperts):
                raise ValueError(f"method {self.config.method['name']} has no routes; only dpn has")
            experts = reducer.method.experts
            if route is not None and route[number] not in experts:
                raise ValueError(f"route[{number}] = {route[number]!r}; allowed: {', '.join(experts)}")
            reducer.forced_expert = None if route is None else experts.index(route[number])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        cache: PackedCache | None = None,
        image_grid_thw: Tensor | None = None,
        **_: Any,
    ) -> DpnOutput:
        """Run a batch.

        Args:
            input_ids: int64[B, S], padded on either side; an image is V consecutive image tokens.
            attention_mask: [B, S], 1 for real tokens; default all.
            pixel_values: float[I, 3, height, width], images in reading order; None without images.
            labels: int64[B, S], -100 where not supervised.
            cache: filled with keys and values (generation).
            image_grid_thw: int64[I, 3], for bases whose pictures have their own grids (pixel_values are then patches).

        Raises:
            ValueError: images and placeholders do not match, or labels have another shape.
        """
        if labels is not None and labels.shape != input_ids.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(input_ids.shape)}")
        state, keep = self._pack(input_ids, attention_mask, pixel_values, image_grid_thw)
        visual = state.visual_tokens()
        text = tuple(total - v for total, v in zip(state.lengths, visual, strict=True))
        final, records = run_decoder(self.model.language_model, state, self._reducers(), cache)
        routing = RoutingReport(tuple(records), text, visual)
        self.last_routing = routing
        if labels is None:
            last = torch.tensor(final.lengths, device=input_ids.device).cumsum(0) - 1
            return DpnOutput(logits=self.lm_head(final.hidden_TD[last]), routing=routing)
        return self._losses(final, labels[keep], routing)

    def _pack(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pixel_values: Tensor | None,
        image_grid_thw: Tensor | None = None,
    ) -> tuple[PackedSequence, Tensor]:
        """Padded ids and images to one packed batch of embeddings; also bool[B, S], the real tokens."""
        keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        ids_T = input_ids[keep]
        lengths = tuple(keep.sum(dim=1).tolist())
        is_image_T = ids_T == self.image_token_id
        side = self.image_side
        images = side.spans(is_image_T.cpu().numpy(), lengths, image_grid_thw)
        num_given = 0 if pixel_values is None else side.count(pixel_values, image_grid_thw)
        if len(images) != num_given:
            raise ValueError(f"input_ids hold {len(images)} image placeholders, pixel_values {num_given} images")
        embed = self.model.get_input_embeddings()
        hidden_TD = embed(ids_T.masked_fill(is_image_T, 0))
        hidden_TD = insert_images(side, self.model, hidden_TD, is_image_T, pixel_values, image_grid_thw, self.training)
        kind_T = is_image_T.to(torch.int8) * TokenKind.VISION
        if self.config.router_token_id is not None:
            kind_T = kind_T.masked_fill(ids_T == self.config.router_token_id, TokenKind.ROUTER)
        index_T = torch.arange(len(ids_T), device=ids_T.device)
        positions = side.positions(lengths, images).to(ids_T.device)
        return PackedSequence(hidden_TD, kind_T, index_T, positions, lengths, images), keep

    def _losses(self, final: PackedSequence, labels_T: Tensor, routing: RoutingReport) -> DpnOutput:
        """Eq. 7. The head runs on supervised rows only; labels shift by one within each sample, after reduction."""
        labels_T = labels_T[final.token_index_T].masked_fill(final.kind_T == TokenKind.VISION, IGNORE_INDEX)
        targets_T = torch.cat([labels_T[1:], labels_T.new_full((1,), IGNORE_INDEX)])
        ends = torch.tensor(final.lengths, device=labels_T.device).cumsum(0) - 1
        targets_T[ends] = IGNORE_INDEX
        rows = torch.nonzero(targets_T != IGNORE_INDEX).flatten()
        if len(rows) == 0:
            raise ValueError("labels: no supervised token in the batch; every label is -100")
        loss_lm = cross_entropy(self.lm_head(final.hidden_TD[rows]).float(), targets_T[rows])
        method = self.config.method_settings
        hinge = routing_loss(routing.records, method.routing_loss)
        loss = loss_lm if hinge is None else loss_lm + method.routing_loss.weight * hinge
        for reducer in self._reducers().values():
            idle = reducer.idle_loss(final) if self.training else None
            loss = loss if idle is None else loss + idle
        return DpnOutput(
            loss=loss, loss_lm=loss_lm, loss_routing=hinge, num_supervised_tokens=len(rows), routing=routing
        )

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        max_new_tokens: int = 16,
        eos_token_id: int = 2,
        pad_token_id: int = 0,
    ) -> Tensor:
        """Greedy decoding: int64[B, S + new], new tokens after the given ids, padded behind the end token.

        Visual tokens are reduced once, at prefill; every layer then decodes against its own cache.
        """
        cache = PackedCache(max_new_tokens)
        logits_BC = self(input_ids, attention_mask, pixel_values, cache=cache).logits
        new: list[Tensor] = []
        is_done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for step in range(max_new_tokens):
            token_B = logits_BC.argmax(dim=-1).masked_fill(is_done, pad_token_id)
            new.append(token_B)
            is_done = is_done | (token_B == eos_token_id)
            if step + 1 == max_new_tokens or bool(is_done.all()):
                break
            hidden_BD = run_decode_step(self.model.language_model, self.model.get_input_embeddings()(token_B), cache)
            logits_BC = self.lm_head(hidden_BD)
        return torch.cat([input_ids, torch.stack(new, dim=1)], dim=1)

    @property
    def image_grid(self) -> tuple[int, int]:
        """Visual tokens of one image as (height, width), before any reduction.

        Raises:
            ValueError: every image of this base has its own grid.
        """
        return self.image_side.fixed_grid()

    def num_visual_tokens(self) -> int:
        """V: visual tokens of one image before any reduction."""
        return math.prod(self.image_grid)
