"""A word-level tokenizer for tiny models: one id per word, special tokens first."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

#: ids 0.. in this order; `</s>` is 2 as in LLaMA's tokenizer
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<ROUTER>")


def build_word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Tokenizer whose vocabulary is the special tokens, the roles and the given words, sorted."""
    vocabulary = [*SPECIAL_TOKENS, *sorted({"USER:", "ASSISTANT:", *words} - set(SPECIAL_TOKENS))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", "<ROUTER>"],
    )
