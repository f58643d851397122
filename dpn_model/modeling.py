"""DpnForConditionalGeneration: a VLM whose decoder runs packed, with a token-reduction method attached.

Parameter names are those of transformers' own model of the base (`model.*`, `lm_head.*`), so its weights load
unchanged; the method adds `reducers.<layer>.*`, `patches.<layer>.*` and `selector.*`.

Shape letters: B samples, S padded length, T packed tokens, I images, V visual tokens of one image, D model width,
C vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from dpn_model.all_routes import AllRoutes
from dpn_model.attention.backends import check_backend
from dpn_model.attention.packed import BACKEND_SETTING
from dpn_model.bases.attach import build_base_model
from dpn_model.bases.vision.contract import Pixels
from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.configuration import DpnConfig
from dpn_model.decoder import run_decoder
from dpn_model.generation import PackedGenerationMixin, copy_prompts
from dpn_model.methods.contract import LossInputs
from dpn_model.outputs import DpnOutput, RoutingReport
from dpn_model.packing import PackedSequence, TokenKind
from dpn_model.vocabulary import Vocabulary
from dpn_model.weights.pretrained import Pretrained

IGNORE_INDEX = -100


class DpnForConditionalGeneration(Pretrained, AllRoutes, Vocabulary, PackedGenerationMixin, PreTrainedModel):
    """transformers' conventions outside (padded ids and masks), packed execution inside."""

    config_class = DpnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    # Layers are recomputed one by one; reducers stand between them, outside: no route is decided twice.
    supports_gradient_checkpointing = True
    # The loss is a mean over supervised tokens; Trainer is not to hand over its own count of them.
    accepts_loss_kwargs = False

    def __init__(self, config: DpnConfig) -> None:
        super().__init__(config)
        base = config.base
        image_side_of(base)  # first: what is refused is not built
        self.model = build_base_model(base)
        self.lm_head = nn.Linear(base.text_config.hidden_size, base.text_config.vocab_size, bias=False)
        self._tied_weights_keys = {"lm_head.weight": f"model.{self.embedding_name()}"}
        self.last_routing: RoutingReport | None = None
        self.image_token_id = base.image_token_id
        self.object_token_id = getattr(base, "object_token_index", None)
        self.post_init()
        dial = config.dial
        self.configure_method(config.method_settings)
        self._bases_projector = ()  # of a saved model only the method's own projector will be loaded
        self.set_dial(dial)

    def _init_weights(self, module: nn.Module) -> None:
        """What methods bring has its own initialisation; the base's modules keep transformers' rules."""
        if not hasattr(module, "reset_parameters") or isinstance(module, (nn.Linear, nn.Embedding, nn.LayerNorm)):
            super()._init_weights(module)

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
        pixel_values: Pixels | None = None,
        labels: Tensor | None = None,
        past_key_values: PackedCache | None = None,
        logits_to_keep: int | None = None,
        num_copies: int = 1,
        cache: PackedCache | None = None,
        **image_inputs: Any,
    ) -> DpnOutput:
        """Run a batch.

        Args:
            input_ids: int64[B, S], padded on either side; an image is V consecutive image tokens. Ids and mask may stay
                on the host; on a device, packing copies them back once.
            attention_mask: [B, S], 1 for real tokens; default all.
            pixel_values: images in reading order: float[I, 3, height, width], a list of float[3, height, width] (of
                any sizes with LLaVA-1.5), tiles, or flat patches, as the base's processor makes them; None without
                images.
            labels: int64[B, S], -100 where not supervised.
            past_key_values, cache: two names of one thing, which is filled; one that holds the prompts is continued.
            logits_to_keep: K, logits of every sample's last K tokens; None: of the last, without that axis.
            num_copies: every sample's logits and cache are repeated so often (beams of one prompt).
            **image_inputs: what the base's processor gives beside the pixels (`image_grid_thw`, `image_sizes` ...).

        Raises:
            ValueError: images and placeholders do not match, labels have another shape, or other arguments.
        """
        inputs = self.image_inputs(image_inputs)
        past_key_values = past_key_values if cache is None else cache
        if past_key_values is not None and past_key_values.get_seq_length():
            if labels is not None:
                raise ValueError("labels are given with past_key_values that hold prompts; allowed: one of the two")
            return self.run_behind_cache(input_ids, attention_mask, past_key_values, logits_to_keep)
        if labels is not None and labels.shape != input_ids.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}, input_ids {tuple(input_ids.shape)}")
        packed = self.pack(input_ids, attention_mask, pixel_values, inputs, labels)
        if self.training and labels is not None and self.parts.copies > 1 and packed.state.images:
            packed = packed.copied(self.parts.copies)
        state, ids = packed.state, packed.ids
        done = run_decoder(
            self.model.language_model, state, self.parts, past_key_values, packed.vision, joins_ranks=self.joins_ranks
        )
        final, shape = done.final, self.model_shape
        routing = RoutingReport.of_pass(
            packed.before,
            packed.selections,
            done,
            shape,
            (packed.runs, packed.base_runs),
            packed.macs,
            packed.ids.objects * packed.state.copies,
        )
        self.last_routing = routing.detached()
        if past_key_values is not None:
            past_key_values.close_step(final.lengths, ids.columns_with_tokens(input_ids))
        if labels is None:
            logits = self.last_logits(final.hidden_TD, final.lengths, logits_to_keep)
            output = DpnOutput(logits=logits, routing=routing, **{CACHE_NAME: past_key_values})
            return copy_prompts(output, num_copies)
        return self._losses(final, labels.to(ids.place_T.device).flatten()[ids.place_T], routing)

    def _losses(self, final: PackedSequence, labels_T: Tensor, routing: RoutingReport) -> DpnOutput:
        """Eq. 7."""
        losses_R, sample_R, logits_RC = self.token_losses(final, labels_T)
        # Without a supervised token a zero with a gradient, not a NaN: every rank joins the backward pass.
        loss_lm = losses_R.mean() if len(losses_R) else losses_R.sum()
        norm = self.model.language_model.norm
        losses_of = lambda early: self.token_losses(early.with_hidden(norm(early.hidden_TD)), labels_T)[0]  # noqa: E731
        seen = LossInputs(routing.records, routing.patches, losses_R, sample_R, final, logits_RC, losses_of)
        terms: dict[str, Tensor] = {}
        weights = {term.name: term.weight for term in self.parts.losses}
        for term in self.parts.losses:
            value = term(seen)
            if value is not None and term.joins_language_loss:  # who weights it weights its gradient
                loss_lm = loss_lm + term.weight * value
            elif value is not None:
                terms[term.name] = value
        tokens = len(losses_R) // final.copies
        loss = loss_lm + sum(weights[name] * value for name, value in terms.items())
        return DpnOutput(loss=loss, loss_lm=loss_lm, loss_terms=terms, num_supervised_tokens=tokens, routing=routing)

    def token_losses(self, final: PackedSequence, labels_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy of every supervised row, float[R], its sample, int64[R], and its logits, float32[R, C].

        `labels_T` are those of the batch as it was first packed, `final` is it behind the last norm.

        The head runs on those rows only; labels shift by one within each sample, after reduction.
        """
        labels_T = labels_T[final.token_index_T].masked_fill(final.kind_T == TokenKind.VISION, IGNORE_INDEX)
        targets_T = torch.cat([labels_T[1:], labels_T.new_full((1,), IGNORE_INDEX)])
        ends = torch.tensor(final.lengths, device=labels_T.device).cumsum(0) - 1
        targets_T[ends] = IGNORE_INDEX
        rows = torch.nonzero(targets_T != IGNORE_INDEX).flatten()
        logits_RC = self.lm_head(final.hidden_TD[rows]).float()
        losses_R = cross_entropy(logits_RC, targets_T[rows], reduction="none")
        return losses_R, torch.bucketize(rows, ends), logits_RC

    @property
    def image_grid(self) -> tuple[int, int]:
        """Visual tokens of one image of the base's own size as (height, width), before any reduction.

        Raises:
            ValueError: every image of this base has its own grid.
        """
        return self.image_side.fixed_grid()

    def num_visual_tokens(self) -> int:
        """V: visual tokens of one image before any reduction."""
        return math.prod(self.image_grid)
