"""The tokenizer that counts at ingest, as a `tokenizer.json`: the folder's own, or its `tokenizer.model` converted."""

from __future__ import annotations

from importlib.util import find_spec

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, join_uri, open_uri, read_bytes

TOKENIZER_JSON, SENTENCEPIECE_MODEL = "tokenizer.json", "tokenizer.model"


def tokenizer_json(folder: str) -> bytes:
    """The bytes of a folder's `tokenizer.json`; where it has `tokenizer.model` alone, what transformers makes of that.

    Raises:
        DpnError: neither is there, or the model cannot be converted here; the line says how to make a tokenizer.json.
    """
    uri, place = join_uri(folder, TOKENIZER_JSON), open_uri(folder)
    if exists(uri) or not exists(join_uri(folder, SENTENCEPIECE_MODEL)):
        return read_bytes(uri)
    try:
        if not place.uri.startswith("file://"):
            raise ValueError("it is not on this machine")
        if find_spec("sentencepiece") is None:
            raise ValueError("the package sentencepiece is not installed")
        from transformers import AutoTokenizer

        return str(AutoTokenizer.from_pretrained(place.path).backend_tokenizer.to_str()).encode()
    except Exception as error:  # whatever the conversion lacks (sentencepiece, protobuf) or finds wrong
        raise DpnError(
            f"--tokenizer {folder}: it has {SENTENCEPIECE_MODEL} and no {TOKENIZER_JSON}, and cannot be converted here "
            f"({(str(error).splitlines() or [type(error).__name__])[0][:150]}). Where sentencepiece is "
            'installed, python -c "from transformers import AutoTokenizer as T; '
            f"T.from_pretrained('{place.path}').save_pretrained('{place.path}')\" makes one"
        ) from error
