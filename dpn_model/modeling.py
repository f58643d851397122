"""DpnForConditionalGeneration: a LLaVA whose decoder runs packed, with a token-reduction method attached.

Parameter names are those of transformers' `LlavaForConditionalGeneration` (`model.*`, `lm_head.*`), so its weights load
unchanged; the method adds `reducers.<layer>.*`.

Shape letters: B samples, S padded length, T packed tokens, I images, V visual tokens of one image, D model width,
C vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaModel, PreTrainedModel

from dpn_model.attention import ATTENTION_NAME
from dpn_model.cache import PackedCache
from dpn_model.configuration import DpnConfig
from dpn_model.cost import ModelShape
from dpn_model.decoder import run_decode_step, run_decoder
from dpn_model.method import Method
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.packing import PackedSequence, TokenKind, contiguous_positions, find_image_spans
from dpn_model.pyramid.budget import Dial
from dpn_model.pyramid.router import Router
from dpn_model.pyramid.routing_loss import routing_loss
from dpn_model.pyramid.score_gradient import score_term
from dpn_model.registry import build_reducers
from dpn_model.sample_keys import sample_keys
from dpn_model.steering import Steering
from dpn_model.weights.folder import load_folder, save_folder

IGNORE_INDEX = -100


class DpnForConditionalGeneration(Steering, PreTrainedModel):
    """transformers' conventions outside (padded ids and masks), packed execution inside."""

    config_class = DpnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    # Layers are recomputed one by one; reducers stand between them, outside: no route is decided twice.
    supports_gradient_checkpointing = True

    def __init__(self, config: DpnConfig) -> None:
        super().__init__(config)
        base = config.base
        base.text_config._attn_implementation = ATTENTION_NAME
        self.model = LlavaModel(base)
        self.model.language_model.config._attn_implementation = ATTENTION_NAME
        self.lm_head = nn.Linear(base.text_config.hidden_size, base.text_config.vocab_size, bias=False)
        self.reducers = nn.ModuleDict()
        self.last_routing: RoutingReport | None = None
        self.model_shape = ModelShape.from_llava(base)
        self.image_grid = self.model_shape.image_grid
        self.image_token_id = base.image_token_index
        self.post_init()
        dial = config.dial
        self.configure_method(config.method_settings)
        self.set_dial(None if dial is None else Dial.from_dict(dial))

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
        self.set_dial(None)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> DpnForConditionalGeneration:
        """Load a folder of ours, or of transformers' LLaVA (dense until a method is configured).

        Only safetensors are read. Raises FileNotFoundError, or ValueError naming missing, unexpected or misshapen keys.
        """
        config, state = load_folder(Path(folder))
        model = cls(config)
        missing, unexpected = model.load_state_dict(state, strict=False)
        if missing or unexpected:
            raise ValueError(f"{folder}: missing keys {sorted(missing)[:5]}, unexpected keys {sorted(unexpected)[:5]}")
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, state_dict: Mapping[str, Tensor] | None = None, **_: Any) -> None:
        """Write configuration and weights (or a consolidated `state_dict`) as a from_pretrained folder."""
        save_folder(Path(folder), self.config, self.state_dict() if state_dict is None else state_dict)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        cache: PackedCache | None = None,
        **_: Any,
    ) -> DpnOutput:
        """Run a batch.

        Args:
            input_ids: int64[B, S], padded on either side; an image is V consecutive image tokens.
            attention_mask: [B, S], 1 for real tokens; default all.
            pixel_values: float[I, 3, height, width], images in reading order; None without images.
            labels: int64[B, S], -100 where not supervised.
            cache: filled with keys and values (generation).

        Raises:
            ValueError: images and placeholders do not match, or labels have another shape.
        """
        if labels is not None and labels.shape != input_ids.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(input_ids.shape)}")
        state, keep = self._pack(input_ids, attention_mask, pixel_values)
        visual = state.visual_tokens()
        text = tuple(total - v for total, v in zip(state.lengths, visual, strict=True))
        final, records = run_decoder(self.model.language_model, state, self._reducers(), cache)
        self.last_routing = routing = RoutingReport(tuple(records), text, visual, self.model_shape)
        if labels is None:
            last = torch.tensor(final.lengths, device=input_ids.device).cumsum(0) - 1
            return DpnOutput(logits=self.lm_head(final.hidden_TD[last]), routing=routing)
        return self._losses(final, labels[keep], routing)

    def _pack(
        self, input_ids: Tensor, attention_mask: Tensor | None, pixel_values: Tensor | None
    ) -> tuple[PackedSequence, Tensor]:
        """Padded ids and images to one packed batch of embeddings; also bool[B, S], the real tokens."""
        keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        ids_T = input_ids[keep]
        lengths = tuple(keep.sum(dim=1).tolist())
        is_image_T = ids_T == self.image_token_id
        images = find_image_spans(is_image_T.cpu().numpy(), lengths, self.image_grid)
        num_given = 0 if pixel_values is None else len(pixel_values)
        if len(images) != num_given:
            raise ValueError(f"input_ids hold {len(images)} image placeholders, pixel_values {num_given} images")
        embed = self.model.get_input_embeddings()
        hidden_TD = embed(ids_T.masked_fill(is_image_T, 0))
        hidden_TD = self._insert_images(hidden_TD, is_image_T, pixel_values)
        kind_T = is_image_T.to(torch.int8) * TokenKind.VISION
        if self.config.router_token_id is not None:
            kind_T = kind_T.masked_fill(ids_T == self.config.router_token_id, TokenKind.ROUTER)
        index_T = torch.arange(len(ids_T), device=ids_T.device)
        positions = torch.from_numpy(contiguous_positions(lengths)).to(ids_T.device)
        keys = sample_keys(ids_T, lengths, pixel_values, images) if self.needs_sample_keys else ()
        return PackedSequence(hidden_TD, kind_T, index_T, positions, lengths, images, keys), keep

    def _insert_images(self, hidden_TD: Tensor, is_image_T: Tensor, pixel_values: Tensor | None) -> Tensor:
        if pixel_values is not None and len(pixel_values):
            return hidden_TD.masked_scatter(is_image_T[:, None], self.encode_images(pixel_values).to(hidden_TD.dtype))
        if not self.training:
            return hidden_TD
        # A text-only batch still runs the tower once, times zero: every rank joins the same collectives (spec
        # platform-conventions 3.1).
        blank = hidden_TD.new_zeros(1, 3, *2 * (self.config.base.vision_config.image_size,))
        return hidden_TD + self.encode_images(blank).sum() * 0.0

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """float[I, 3, height, width] -> float[I * V, D], projected patch features."""
        return torch.cat(list(self.model.get_image_features(pixel_values, return_dict=True).pooler_output), dim=0)

    def _losses(self, final: PackedSequence, labels_T: Tensor, routing: RoutingReport) -> DpnOutput:
        """Eq. 7. The head runs on supervised rows only; labels shift by one within each sample, after reduction."""
        labels_T = labels_T[final.token_index_T].masked_fill(final.kind_T == TokenKind.VISION, IGNORE_INDEX)
        targets_T = torch.cat([labels_T[1:], labels_T.new_full((1,), IGNORE_INDEX)])
        ends = torch.tensor(final.lengths, device=labels_T.device).cumsum(0) - 1
        targets_T[ends] = IGNORE_INDEX
        rows = torch.nonzero(targets_T != IGNORE_INDEX).flatten()
        if len(rows) == 0:
            raise ValueError("labels: no supervised token in the batch; every label is -100")
        losses_R = cross_entropy(self.lm_head(final.hidden_TD[rows]).float(), targets_T[rows], reduction="none")
        loss_lm = losses_R.mean()
        method = self.config.method_settings
        hinge = routing_loss(routing.records, method.routing_loss)
        loss = loss_lm if hinge is None else loss_lm + method.routing_loss.weight * hinge
        if method.router_gradient == "score":
            loss = loss + score_term(losses_R, torch.bucketize(rows, ends), routing.records)
        idle = [reducer.idle_loss(final) for reducer in self._reducers().values()] if self.training else []
        loss = loss + sum(term for term in idle if term is not None)
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

    def num_visual_tokens(self) -> int:
        """V: visual tokens of one image before any reduction."""
        return math.prod(self.image_grid)
