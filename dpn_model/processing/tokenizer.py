"""Tokenizers: a word-level one for tiny models, and the special tokens that imported ones lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dpn_model.special_texts import OBJECT_TEXT, OBJECT_TOKENS, ROUTER_TEXT, SPECIAL_TOKENS


def build_word_tokenizer(words: Iterable[str], *, objects: bool = False) -> PreTrainedTokenizerFast:
    """Tokenizer whose vocabulary is the special tokens, the roles and the given words, sorted.

    Args:
        words: of the data.
        objects: whether names of objects and what answers put around them are special tokens too.
    """
    special = (*SPECIAL_TOKENS, *((OBJECT_TEXT, *OBJECT_TOKENS) if objects else ()))
    vocabulary = [*special, *sorted({"USER:", "ASSISTANT:", *words} - set(special))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special[4:]),
    )


def add_special_tokens(
    tokenizer: PreTrainedTokenizerBase, expected: Mapping[str, int | None], *, fills: bool = False
) -> None:
    """Teach an imported tokenizer texts that stand for something, at the ids the model has for them.

    Where it has no token to pad with, that is `<unk>`, as the authors do.

    Args:
        tokenizer: of transformers.
        expected: text -> id; None: the model has none.
        fills: ids between that no token has are given placeholders: the embedding's spare rows.

    Raises:
        ValueError: the tokenizer gives one of them another id than the model's.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token
    # New tokens get the next free id, so the smallest comes first.
    ordered = sorted((wanted, text) for text, wanted in expected.items() if wanted is not None)
    for wanted, text in ordered:
        if fills and text not in tokenizer.get_vocab():
            tokenizer.add_tokens([f"<unused_{number}>" for number in range(len(tokenizer), wanted)])
        tokenizer.add_tokens([text], special_tokens=True)
        given = tokenizer.convert_tokens_to_ids(text)
        if given != wanted:
            raise ValueError(
                f"the tokenizer gives {text} the id {given}, the model has {wanted}; they do not belong together"
            )


def add_router_token(tokenizer: PreTrainedTokenizerBase, router_token_id: int | None) -> int:
    """Teach the tokenizer of another model `<ROUTER>`, where it does not know it; returns its id.

    Args:
        tokenizer: of transformers.
        router_token_id: the row that the model has for it; ids before it that no token has are given placeholders.
            None: the first id behind the tokenizer's.

    Raises:
        ValueError: another token has that id.
    """
    if ROUTER_TEXT not in tokenizer.get_vocab():
        free = len(tokenizer)
        wanted = free if router_token_id is None else router_token_id
        if wanted < free:
            raise ValueError(
                f"the model has row {wanted} for {ROUTER_TEXT}, which the tokenizer gives to "
                f"{tokenizer.convert_ids_to_tokens(wanted)!r}; the first free one is {free}"
            )
        tokenizer.add_tokens([f"<unused_{number}>" for number in range(free, wanted)])
        tokenizer.add_tokens([ROUTER_TEXT], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(ROUTER_TEXT))
