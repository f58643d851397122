"""Turns pydantic's report into one line that names the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Sequence
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_NEAR = 0.6


def describe(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """All errors of one validation in one line.

    Args:
        error: pydantic's report.
        model: the model that was validated, searched for the nearest valid name.
        source: the file or object the values came from; starts the line.
    """
    return f"{source}: " + "; ".join(_one(details, model) for details in error.errors())


def _one(details: ErrorDetails, model: type[BaseModel]) -> str:
    path = dotted(details["loc"])
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        if details["loc"][0] == "method" and len(details["loc"]) > 1:
            return _no_setting(details["loc"], model)
        return f"unknown key '{path}'{_nearest_key(details['loc'], model)}"
    if kind == "missing":
        return f"'{path}' is required"
    if kind in ("model_type", "model_attributes_type"):
        return f"{path} = {_short(value)}: must be a section of keys"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'|(\d+)", details.get("ctx", {}).get("expected", ""))
        names = [text or number for text, number in allowed]
        return f"{path} = {_short(value)}: allowed are {', '.join(names)}{did_you_mean(str(value), names)}"
    text = details["msg"].removeprefix("Value error, ")
    text = text.replace("Input should be", "must be").replace("a valid tuple", "a list")
    # A section's own check speaks of several keys at once: its whole content would only hide the sentence.
    if isinstance(value, dict | BaseModel):
        return f"{path}: {text}" if path and not text.startswith(path) else text
    return f"{path} = {_short(value)}: {text}"


def _no_setting(location: Sequence[str | int], model: type[BaseModel]) -> str:
    """A key that the method does not have, perhaps another method's."""
    method = section_of(model.model_fields["method"].annotation)
    assert method is not None
    keys = [key for key in all_keys(method) if key != "name"]
    key = dotted(location[1:])
    prefix = key.rpartition(".")[0]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=_NEAR)
    hint = f" (did you mean 'method.{near[0]}'?)" if near else ""
    here = [one for one in keys if one.rpartition(".")[0] == prefix]
    return f"{method.model_fields['name'].default} has no setting {key}{hint}; allowed: {', '.join(here) or 'none'}"


def dotted(location: Sequence[str | int]) -> str:
    """("sweep", "experts", 0) -> "sweep.experts[0]"."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key the model accepts, sections included."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        section = section_of(field.annotation)
        if section is not None:
            keys += all_keys(section, f"{prefix}{name}.")
    return keys


def _nearest_key(location: Sequence[str | int], model: type[BaseModel]) -> str:
    """The same name in another section; else the nearest one in this section; else what is allowed here."""
    parent, name = [str(part) for part in location[:-1]], str(location[-1])
    prefix = ".".join([*parent, ""]) if parent else ""
    keys = all_keys(model)
    here = [key.removeprefix(prefix) for key in keys if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
    elsewhere = min((key for key in keys if key.rpartition(".")[2] == name), key=len, default=None)
    near = difflib.get_close_matches(name, here, n=1, cutoff=_NEAR)
    if elsewhere or near:
        return f" (did you mean '{elsewhere or prefix + near[0]}'?)"
    return f" (allowed here: {', '.join(here)})"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model behind `Section` or `Section | None`; None for plain fields."""
    options = typing.get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def did_you_mean(value: str, names: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no name is near."""
    near = difflib.get_close_matches(value, names, n=1, cutoff=_NEAR)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def first_message(error: ValueError) -> str:
    """What is wrong, in one line: of pydantic's pages, the first of its complaints."""
    if not isinstance(error, ValidationError):
        return str(error)
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
