"""Pickles that hold data alone. A pickle is a program: one that asks for an import or a call is refused."""

from __future__ import annotations

import io
import pickle
from typing import Any

from dpn_platform.config.errors import DpnError


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, tuples, sets, dictionaries, texts, bytes and numbers: whatever needs no import.

    Every instruction that calls something takes it from `find_class` or `persistent_load`, so nothing is ever called.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object that lies elsewhere")


def read_plain_pickle(data: bytes, where: str) -> Any:
    """What a pickle of plain containers, texts and numbers holds.

    Args:
        data: the pickle, of Python 2 or 3; texts of Python 2 that are not UTF-8 survive as lone surrogates.
        where: names it in errors.

    Raises:
        DpnError: it is no pickle, or holds anything else; nothing that it names was imported or run.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="utf-8", errors="surrogateescape").load()
    except Exception as error:  # damaged pickles make the reader raise whatever their bytes lead to
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise DpnError(
            f"{where}: no pickle of plain lists, dictionaries, texts and numbers ({told}); no code of a pickle is run. "
            "The same list as .json is read, too"
        ) from error
