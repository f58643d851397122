"""Addresses inside the documents of a study that has moved: what came along is found at its new place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from dpn_platform.config.yaml_text import parse_yaml

_LONGEST_ADDRESS = 2000  # a picture in a document is no address


class Moved:
    """Old places -> new ones; the longest that fits decides, and what is at none of them stays as it is.

    Args:
        places: address of a folder or object -> its new address, or itself for what was left behind.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        # Documents name places on a disk with and without their scheme.
        plain = {old.removeprefix("file://"): new for old, new in places.items() if old.startswith("file://")}
        self._places = {**places, **plain}

    def address(self, text: str) -> str:
        """The address today."""
        if "/" not in text or len(text) > _LONGEST_ADDRESS:
            return text
        front = text.rstrip("/")
        while front:
            if front in self._places:
                return self._places[front] + text[len(front) :]
            front = front.rpartition("/")[0]
        return text

    def document(self, value: Any) -> Any:
        """A JSON value with every address in it as it is today. Runs of the former tracker are unknown to this one."""
        if isinstance(value, dict):
            return {key: None if key == "run_id" else self.document(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.document(one) for one in value]
        return self.address(value) if isinstance(value, str) else value

    def json_bytes(self, data: bytes) -> bytes:
        """A JSON object as it is stored; what is none stays as it is."""
        try:
            value = json.loads(data)
        except ValueError:
            return data
        moved = self.document(value)
        return (
            data
            if moved == value
            else (json.dumps(moved, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
        )


def moved_header(data: bytes, study: str, runs_uri: str) -> bytes:
    """A study's header under another name, its config with other `storage.runs_uri`."""
    header = json.loads(data)
    values = parse_yaml(header["config"], f"study '{header['name']}'")
    values["storage"] = {**(values.get("storage") or {}), "runs_uri": runs_uri}
    config = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps({**header, "name": study, "config": config}).encode()
