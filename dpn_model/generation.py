"""Generation through transformers' GenerationMixin: greedy, sampling, beam search, streaming, several turns.

A prompt is prefilled once, whatever the number of beams or of samples drawn from it, and its visual tokens are reduced
there and only there (spec A.7). Every layer then decodes against its own cache. Ids may be padded on either side.

Shape letters: B samples, S columns of the padded ids, Q new columns, T packed tokens, D model width, C vocabulary,
K logits kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from dpn_model.bases.vision.contract import ImageSide
from dpn_model.cache import CACHE_NAME, DEFAULT_ROOM, PackedCache, cache_of
from dpn_model.decoder import run_cached
from dpn_model.methods.contract import Parts
from dpn_model.outputs import DpnOutput

DEFAULT_NEW_TOKENS = 16
_LENGTH_SETTINGS = {"max_new_tokens", "max_length", "generation_config"}
_ASSISTED = ("assistant_model", "prompt_lookup_num_tokens")


class PackedGenerationMixin(GenerationMixin):
    """What GenerationMixin has to know about packed execution; for models with `model`, `lm_head` and packed layers."""

    image_token_id: int
    object_token_id: int | None
    image_side: ImageSide
    parts: Parts

    @property
    def _image_names(self) -> tuple[str, ...]:
        return self.image_side.inputs

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate as transformers does; `last_routing` then tells how the prompts were routed.

        Args:
            input_ids: int64[B, S], padded on either side. In a later turn the whole conversation: what `generate`
                returned, then the new tokens.
            attention_mask: [B, S], 1 for real tokens; default all but padding (all, in a later turn).
            pixel_values: images in reading order, as in `forward`; first turn only.
            **kwargs: what comes beside the pixels, as in `forward`; settings as in transformers
                (`max_new_tokens`, default 16, `do_sample`, `num_beams`, `streamer` ...).
                `past_key_values` (or `cache`): a `PackedCache`, empty in the first turn; it is filled and continued.

        Returns:
            int64[B, S + new], new tokens after the given ids, padded behind an end; or transformers' output object.

        Raises:
            ValueError: a later turn brings images or does not continue its cache; a strategy that needs logits of
                drafted tokens (assisted decoding).
        """
        for name in _ASSISTED:
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} is set; allowed strategies: greedy, sampling, beam search (with sampling)")
        given = [kwargs.pop(name) for name in ("past_key_values", "cache") if name in kwargs]
        past = next((cache for cache in given if cache is not None), None)
        if past is not None:
            kwargs[CACHE_NAME] = past
        if isinstance(past, PackedCache) and past.get_seq_length():
            attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            self._check_turn(input_ids, attention_mask, past)
            past.forget_masked(attention_mask)
            pixel_values = None
            kwargs = {name: value for name, value in kwargs.items() if name not in self._image_names}
        if not _LENGTH_SETTINGS & kwargs.keys():
            kwargs["max_new_tokens"] = DEFAULT_NEW_TOKENS
        with _no_advice_on_padding():
            return super().generate(
                inputs=input_ids, attention_mask=attention_mask, pixel_values=pixel_values, **kwargs
            )

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        """transformers refuses arguments that no model of its takes; it reads their names off a signature."""
        super()._validate_model_kwargs({n: v for n, v in model_kwargs.items() if n not in self._image_names})

    def _check_turn(self, input_ids: Tensor, attention_mask: Tensor, past: PackedCache) -> None:
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; in a "
                "later turn both hold the whole conversation"
            )
        new = slice(past.get_seq_length(), None)
        if bool((attention_mask[:, new].sum(dim=1) == 0).any()):
            raise ValueError("input_ids: a later turn needs a new token for every sample")
        for token_id in (self.image_token_id, self.object_token_id):
            if token_id is not None and bool((input_ids[:, new] == token_id).any()):
                raise ValueError("input_ids: images and their boxes are allowed in the first turn only")

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: PackedCache | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        num_copies: int = 1,
        cache: PackedCache | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """Arguments of the next `forward`: the columns its cache has not seen, or everything."""
        past_key_values = past_key_values if cache is None else cache
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        inputs = {CACHE_NAME: past_key_values, "logits_to_keep": 1}
        if seen:
            return inputs | {"input_ids": input_ids[:, seen:], "attention_mask": attention_mask}
        if num_copies > 1 and past_key_values is None:
            raise ValueError("use_cache = False; allowed with beams or several returned sequences: True")
        mask = None if attention_mask is None else attention_mask[::num_copies]
        prompts = {"input_ids": input_ids[::num_copies], "attention_mask": mask, "num_copies": num_copies}
        return (
            inputs | prompts | {"pixel_values": pixel_values, **{name: others.get(name) for name in self._image_names}}
        )

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Images stay as they are: a prompt is prefilled once, then its cache is copied."""
        images = {name: model_kwargs.pop(name, None) for name in ("pixel_values", *self._image_names)}
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        return input_ids, model_kwargs | images | {"num_copies": expand_size}

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *_: Any, **__: Any
    ) -> None:
        past = model_kwargs.get(CACHE_NAME)
        if past is None and generation_config.use_cache is not False:
            room = generation_config.max_new_tokens
            model_kwargs[CACHE_NAME] = PackedCache(DEFAULT_ROOM if room is None else room)
        elif past is not None and not isinstance(past, PackedCache):
            raise ValueError(f"past_key_values is a {type(past).__name__}; allowed: PackedCache")
        elif past is not None and past.get_seq_length() and model_kwargs["num_copies"] > 1:
            past.batch_repeat_interleave(model_kwargs["num_copies"])

    def run_behind_cache(
        self, input_ids: Tensor, attention_mask: Tensor | None, cache: PackedCache, logits_to_keep: int | None
    ) -> DpnOutput:
        """`forward` of int64[B, Q] new ids of samples whose prompts are in the cache.

        Args:
            input_ids: the new columns; a single one holds a token of every sample.
            attention_mask: [B, columns seen + Q], or None: all are tokens.
            cache: of the prompts; appended to.
            logits_to_keep: as in `forward`.
        """
        is_token_BQ = torch.ones_like(input_ids, dtype=torch.bool)
        lengths = (input_ids.shape[1],) * len(input_ids)
        ids_T = input_ids.flatten()
        if attention_mask is not None and input_ids.shape[1] > 1:
            is_token_BQ = attention_mask[:, -input_ids.shape[1] :].bool()
            lengths = tuple(is_token_BQ.sum(dim=1).tolist())
            ids_T = input_ids[is_token_BQ]
        hidden_TD = run_cached(
            self.model.language_model, self.model.get_input_embeddings()(ids_T), lengths, cache, self.parts.patches
        )
        cache.close_step(lengths, is_token_BQ)
        return DpnOutput(logits=self.last_logits(hidden_TD, lengths, logits_to_keep), **{CACHE_NAME: cache})

    def last_logits(self, hidden_TD: Tensor, lengths: Sequence[int], logits_to_keep: int | None) -> Tensor:
        """Logits of every sample's last token, float[B, C], or of its last K, float[B, K, C].

        Raises:
            ValueError: a sample has fewer than K tokens, or K is below 1.
        """
        kept = 1 if logits_to_keep is None else logits_to_keep
        if not 1 <= kept <= min(lengths):
            raise ValueError(f"logits_to_keep = {kept}; allowed: 1 to {min(lengths)}, the shortest sample's tokens")
        ends_B = torch.tensor(lengths, device=hidden_TD.device).cumsum(0)
        rows_BK = ends_B[:, None] + torch.arange(-kept, 0, device=hidden_TD.device)
        logits_BKC: Tensor = self.lm_head(hidden_TD[rows_BK])
        return logits_BKC[:, 0] if logits_to_keep is None else logits_BKC


def copy_prompts(output: DpnOutput, num_copies: int) -> DpnOutput:
    """Every sample `num_copies` times, copies side by side (beams of one prompt); `routing` stays per prompt."""
    if num_copies > 1:
        assert output.logits is not None
        output.logits = output.logits.repeat_interleave(num_copies, dim=0)
        cache_of(output).batch_repeat_interleave(num_copies)
    return output


@contextmanager
def _no_advice_on_padding() -> Iterator[None]:
    """transformers advises to pad prompts on the left; packed, either side gives the same."""
    logger = logging.getLogger("transformers.generation.utils")
    is_other = lambda record: "right-padding was detected" not in record.getMessage()  # noqa: E731
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
