"""Texts that stand for something in a conversation, whatever ids a tokenizer gives them."""

IMAGE_TEXT = "<image>"
ROUTER_TEXT = "<ROUTER>"
