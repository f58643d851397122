"""Texts that stand for something in a conversation, whatever ids a tokenizer gives them."""

from dpn_model.objects.boxes import MAX_OBJECTS

IMAGE_TEXT = "<image>"
ROUTER_TEXT = "<ROUTER>"
#: of a tokenizer made here: ids 0.. in this order; `</s>` is 2 as in LLaMA's tokenizer
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", IMAGE_TEXT, ROUTER_TEXT)
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
