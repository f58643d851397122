"""Asked before a dear study starts: whoever is there, or nobody, or --yes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import typer

from dpn_platform.cli import confirming
from dpn_platform.cli.confirming import confirm, planned_hours
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config


def study(limit: float | None = 5.0, **train: Any) -> Any:
    sweep = {"num_trials": 1, "controls": ["dense"], "limits": {"confirm_above": limit}}
    values = {"name": "x", "model": {"base": "tiny"}, "train": {"steps": 10, **train}, "eval": {"limit": 10}}
    return parse_config({**values, "sweep": sweep})


def sit(monkeypatch: Any, *, there: bool, answer: bool = True) -> list[str]:
    asked: list[str] = []

    def ask(text: str, *, abort: bool, err: bool) -> None:
        asked.append(text)
        if not answer:
            raise typer.Abort

    monkeypatch.setattr(confirming.sys, "stdin", SimpleNamespace(isatty=lambda: there))
    monkeypatch.setattr(confirming.typer, "confirm", ask)
    return asked


def test_a_study_below_the_limit_or_agreed_to_starts(monkeypatch: Any) -> None:
    asked = sit(monkeypatch, there=True)
    confirm(study(), 4.9, yes=False)
    confirm(study(), 500.0, yes=True)
    confirm(study(limit=None), 500.0, yes=False)
    confirm(study(), None, yes=False)
    assert asked == []
    confirm(study(), 5.1, yes=False)
    assert asked == ["it comes to about 5.10 device-hours, sweep.limits.confirm_above is 5; start?"]


def test_a_study_above_it_does_not_start_unasked(monkeypatch: Any) -> None:
    sit(monkeypatch, there=True, answer=False)
    with pytest.raises(typer.Abort):
        confirm(study(), 5.1, yes=False)
    sit(monkeypatch, there=False)
    with pytest.raises(ConfigError, match="about 5.10 device-hours, .*confirm_above is 5; say --yes, or ask for less"):
        confirm(study(), 5.1, yes=False)


def test_a_study_whose_time_is_over_does_not_start() -> None:
    late = parse_config({"name": "x", "sweep": {"limits": {"until": "2026-01-02T06:00"}}})
    with pytest.raises(ConfigError, match="sweep.limits.until = 2026-01-02T06:00 is past: nothing would start"):
        confirm(late, None, yes=False)


def test_hours_are_those_of_the_plan() -> None:
    hours = planned_hours(study(peak_tflops=0.001))
    assert hours is not None
    assert hours > 0
    assert planned_hours(study()) is None, "nobody has measured these cores"
