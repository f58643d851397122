"""A pickle of plain data is read; one that would run anything is refused, and runs nothing."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.plain_pickle import read_plain_pickle

PLAIN: list[Any] = [{"sent": "é", "ids": [1, -2, 2**70], "box": (1.5, None, True)}, {1, 2}, frozenset(["a"]), b"x"]
#: written by Python 2: a str, a str that is not UTF-8, a unicode, a long, a dictionary
OF_PYTHON_2 = b"(dp0\nS'sent'\np1\nS'caf\\xc3\\xa9'\np2\nsS'odd'\nS'\\xff'\nsVu\\u00e9\nL12L\nsS'l'\n(lp3\nI01\nas."


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(4, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(PLAIN, protocol), "x.p") == PLAIN


@pytest.mark.parametrize("protocol", range(4))
def test_plain_lists_of_older_protocols_come_back(protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(PLAIN[:1], protocol), "x.p") == PLAIN[:1]


def test_texts_of_python_2_are_utf_8_or_survive() -> None:
    found = read_plain_pickle(OF_PYTHON_2, "x.p")
    assert found == {"sent": "café", "odd": "\udcff", "ué": 12, "l": [True]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "made"
    data = pickle.dumps([Runs(file)], protocol)
    with pytest.raises(DpnError, match="x.p: no pickle of plain lists.*it asks for .*; no code of a pickle is run"):
        read_plain_pickle(data, "x.p")
    assert not file.exists()
    pickle.loads(data)
    assert file.exists()


@pytest.mark.parametrize(
    "value", [collections.OrderedDict(a=1), np.int64(3), np.zeros(2), Path("x"), collections.Counter("a"), len, 1j]
)
def test_what_needs_an_import_is_refused_even_if_it_is_harmless(value: Any) -> None:
    with pytest.raises(DpnError, match="it asks for"):
        read_plain_pickle(pickle.dumps({"x": value}), "x.p")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1, 2]",
        b"\x80\x04N",
        b"\x80\x04K",
        b"\x80\x63.",
        b"Pid\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"N}b.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"jAAAA.",
        b"0.",
    ],
)
def test_damaged_and_hostile_pickles_are_one_line(data: bytes) -> None:
    with pytest.raises(DpnError) as refusal:
        read_plain_pickle(data, "x.p")
    assert str(refusal.value).startswith("x.p: no pickle of plain lists")
    assert "\n" not in str(refusal.value)
