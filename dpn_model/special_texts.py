"""Texts that stand for something in a conversation, whatever ids a tokenizer gives them."""

IMAGE_TEXT = "<image>"
ROUTER_TEXT = "<ROUTER>"
#: of a tokenizer made here: ids 0.. in this order; `</s>` is 2 as in LLaMA's tokenizer
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", IMAGE_TEXT, ROUTER_TEXT)
#: `<obj0>` to `<obj99>`: what an answer can name (spec chatrex 1.3)
MAX_OBJECTS = 100
#: features of an object, behind its name
OBJECT_TEXT = "<objfeat>"
#: what answers about objects are written in, in the order of their ids (spec chatrex 1.3)
OBJECT_TOKENS = (
    *(f"<obj{number}>" for number in range(MAX_OBJECTS)),
    "<ground>",
    "</ground>",
    "<objects>",
    "</objects>",
)
