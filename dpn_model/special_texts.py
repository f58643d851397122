"""Texts that stand for something in a conversation, whatever ids a tokenizer gives them."""

IMAGE_TEXT = "<image>"
ROUTER_TEXT = "<ROUTER>"
#: of a tokenizer made here: ids 0.. in this order; `</s>` is 2 as in LLaMA's tokenizer
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", IMAGE_TEXT, ROUTER_TEXT)
