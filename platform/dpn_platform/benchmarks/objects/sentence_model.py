"""A sentence model in a folder of the user's, for texts that mean the same in other words. Nothing is downloaded.

Sentence-transformers' all-MiniLM-L6-v2 is what the papers use. Mean pooling over tokens, then the cosine.

Shape letters: B texts, T tokens, D the model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError

_BATCH = 64
#: tokens, as the model above was used; none of our texts comes near
_LONGEST = 256


@dataclass(frozen=True)
class SentenceModel:
    """A tokenizer with an encoder of transformers."""

    tokenizer: Any
    encoder: Any

    @classmethod
    def of_folder(cls, folder: str) -> SentenceModel:
        """Loads it, in float32, without any code of the folder's.

        Raises:
            DpnError: no such folder, or none that transformers reads as tokenizer and encoder.
        """
        from transformers import AutoModel, AutoTokenizer

        if not (Path(folder) / "config.json").is_file():
            raise DpnError(f"{folder}: no folder of a sentence model: wanted config.json, tokenizer and weights in it")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            encoder, loaded = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype="float32", output_loading_info=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise DpnError(f"{folder}: not read as a sentence model: {str(error).splitlines()[0]}") from None
        # The pooler is no part of a mean over tokens, and some folders come without it.
        missing = sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise DpnError(
                f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more; wanted a whole encoder"
            )
        return cls(tokenizer, encoder.eval())

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> list[float]:
        """The cosine of every pair, -1 to 1; an empty text means nothing and is like none."""
        distinct = list(dict.fromkeys(text for text in (*first, *second) if text.strip()))
        # Of similar length together: less of a batch is padding.
        distinct.sort(key=len)
        vectors: dict[str, Any] = {}
        for start in range(0, len(distinct), _BATCH):
            batch = distinct[start : start + _BATCH]
            vectors.update(zip(batch, self._vectors(batch), strict=True))
        return [
            float(vectors[one] @ vectors[other]) if one in vectors and other in vectors else 0.0
            for one, other in zip(first, second, strict=True)
        ]

    def _vectors(self, texts: Sequence[str]) -> Any:
        """float32[B, D] of length 1: the mean over each text's tokens."""
        import torch

        inputs = self.tokenizer(list(texts), padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        with torch.inference_mode():
            hidden_BTD = self.encoder(**inputs).last_hidden_state
            mask_BT = inputs["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
            mean_BD = (hidden_BTD * mask_BT).sum(dim=1) / mask_BT.sum(dim=1)
            return torch.nn.functional.normalize(mean_BD, dim=1)
