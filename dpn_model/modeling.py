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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaModel, PreTrainedModel

from dpn_model.attention import ATTENTION_NAME, BACKEND_SETTING
from dpn_model.attention_backends import check_backend
from dpn_model.cache import PackedCache
from dpn_model.configuration import DpnConfig
from dpn_model.cost import ModelShape
from dpn_model.decoder import run_decoder
from dpn_model.generation import PackedGenerationMixin, copy_prompts
from dpn_model.image_sizes import encode_by_size, image_grids
from dpn_model.method import Method
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.packed_ids import PackedIds, pack_ids
from dpn_model.packing import PackedSequence, TokenKind
from dpn_model.pyramid.budget import Dial
from dpn_model.pyramid.router import Router
from dpn_model.pyramid.routing_loss import routing_loss
from dpn_model.pyramid.score_gradient import score_term
from dpn_model.registry import build_reducers
from dpn_model.sample_keys import sample_keys
from dpn_model.steering import Steering
from dpn_model.weights.folder import load_folder, save_folder

IGNORE_INDEX = -100


class DpnForConditionalGeneration(Steering, PackedGenerationMixin, PreTrainedModel):
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

    def set_attention_backend(self, name: str | None) -> None:
        """Use the attention backend `name` (see `attention_backends.BACKENDS`); None: the fastest that can run.

        Raises:
            ValueError: unknown name.
        """
        if name is not None:
            check_backend(name)
        setattr(self.model.language_model.config, BACKEND_SETTING, name)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        labels: Tensor | None = None,
        past_key_values: PackedCache | None = None,
        logits_to_keep: int | None = None,
        num_copies: int = 1,
        **_: Any,
    ) -> DpnOutput:
        """Run a batch.

        Args:
            input_ids: int64[B, S], padded on either side; an image is V consecutive image tokens.
            attention_mask: [B, S], 1 for real tokens; default all.
            pixel_values: float[I, 3, height, width], or a list of float[3, height, width] of any sizes, images in
                reading order; None without images.
            labels: int64[B, S], -100 where not supervised.
            past_key_values: filled with keys and values; one that holds the prompts is continued.
            logits_to_keep: K, logits of every sample's last K tokens; None: of the last, without that axis.
            num_copies: every sample's logits and cache are repeated so often (beams of one prompt).

        Raises:
            ValueError: images and placeholders do not match, or labels have another shape.
        """
        if past_key_values is not None and past_key_values.get_seq_length():
            if labels is not None:
                raise ValueError("labels are given with past_key_values that hold prompts; allowed: one of the two")
            return self.run_behind_cache(input_ids, attention_mask, past_key_values, logits_to_keep)
        if labels is not None and labels.shape != input_ids.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(input_ids.shape)}")
        state, ids = self._pack(input_ids, attention_mask, pixel_values)
        visual = state.visual_tokens()
        text = tuple(total - v for total, v in zip(state.lengths, visual, strict=True))
        final, records = run_decoder(self.model.language_model, state, self._reducers(), past_key_values)
        self.last_routing = routing = RoutingReport(tuple(records), text, visual, self.model_shape)
        if past_key_values is not None:
            past_key_values.close_step(final.lengths, ids.columns_with_tokens(input_ids))
        if labels is None:
            logits = self.last_logits(final.hidden_TD, final.lengths, logits_to_keep)
            return copy_prompts(DpnOutput(logits=logits, routing=routing, past_key_values=past_key_values), num_copies)
        return self._losses(final, labels.flatten()[ids.place_T], routing)

    def _pack(
        self, input_ids: Tensor, attention_mask: Tensor | None, pixel_values: Tensor | Sequence[Tensor] | None
    ) -> tuple[PackedSequence, PackedIds]:
        """Padded ids and images to one packed batch of embeddings."""
        ids = pack_ids(
            input_ids,
            attention_mask,
            image_token_id=self.image_token_id,
            router_token_id=self.config.router_token_id,
            grids=image_grids(pixel_values, self.config.base, self.image_grid),
        )
        hidden_TD = self._insert_images(self.model.get_input_embeddings()(ids.ids_T), ids.is_image_T, pixel_values)
        index_T = torch.arange(len(ids.ids_T), device=hidden_TD.device)
        keys = sample_keys(ids.ids_T, ids.lengths, pixel_values, ids.images) if self.needs_sample_keys else ()
        return PackedSequence(hidden_TD, ids.kind_T, index_T, ids.position_ids_T, ids.lengths, ids.images, keys), ids

    def _insert_images(
        self, hidden_TD: Tensor, is_image_T: Tensor, pixel_values: Tensor | Sequence[Tensor] | None
    ) -> Tensor:
        if pixel_values is not None and len(pixel_values):
            return hidden_TD.masked_scatter(is_image_T[:, None], self.encode_images(pixel_values).to(hidden_TD.dtype))
        if not self.training:
            return hidden_TD
        # A text-only batch still runs the tower once, times zero: every rank joins the same collectives (spec
        # platform-conventions 3.1).
        blank = hidden_TD.new_zeros(1, 3, *2 * (self.config.base.vision_config.image_size,))
        return hidden_TD + self.encode_images(blank).sum() * 0.0

    def encode_images(self, pixel_values: Tensor | Sequence[Tensor]) -> Tensor:
        """Images as in `forward` -> float[visual tokens of all, D], projected patch features."""
        return encode_by_size(self.model, pixel_values, self.config.base)

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

    def num_visual_tokens(self) -> int:
        """V: visual tokens of one image before any reduction."""
        return math.prod(self.image_grid)
