"""`promote` and `aliases` as verbs: tables, JSON, a dry run, and refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from dpn_platform.cli.study import register
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.trials import Trial
from tests.evaluation.outcome_tables import answers, write_point

HARDNESS = np.random.default_rng(5).normal(size=1200)
Call = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A study of a dense control and a point at half the cost."""
    runs = str(tmp_path / "runs")
    values = {"name": "try", "model": {"base": "tiny"}, "storage": {"runs_uri": runs}, "sweep": {"num_trials": 3}}
    found = Ledger(runs, "night")
    found.create(parse_config(values))
    for name, accuracy, cost, method in (("dense", 0.9, 1.0, "dense"), ("a", 0.85, 0.5, "dpn")):
        add(found, tmp_path, name, accuracy, cost, method)
    return found


def add(ledger: Ledger, folder: Path, name: str, accuracy: float, cost: float, method: str = "dpn") -> None:
    point = write_point(folder, name, answers(accuracy, HARDNESS, 1), cost, method)
    ledger.put(Trial(name, {"method.name": method}, state="finished", point=point.to_json()))


@pytest.fixture
def call() -> Call:
    app = typer.Typer()
    register(app)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["study", *arguments], catch_exceptions=False)

    return call


def document(result: Result) -> Any:
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_a_night_and_the_next(ledger: Ledger, call: Call, tmp_path: Path) -> None:
    place = ("--runs-uri", ledger.runs_uri, "--json")
    dry = document(call("promote", "night", "--alias", "budget-0.6", "--dry-run", *place))
    assert (dry["dry_run"], dry["decisions"][0]["holder"], dry["decisions"][0]["number"]) == (True, "a", 0)
    assert document(call("aliases", "night", *place)) == {"study": "night", "aliases": {}}
    document(call("promote", "night", "--alias", "budget-0.6", "--alias", "champion", *place))
    add(ledger, tmp_path, "c", 0.89, 0.5)
    found = document(call("promote", ledger.uri, "--json"))  # those that it has, by the study's folder
    assert {one["alias"]: one["action"] for one in found["decisions"]} == {"budget-0.60": "moved", "champion": "kept"}
    shown = document(call("aliases", ledger.uri, "--history", "--json"))
    assert shown["aliases"] == {"budget-0.60": "c", "champion": "dense"}
    assert [one["number"] for one in shown["decisions"]] == [1, 2, 3, 4]


def test_tables_are_for_people(ledger: Ledger, call: Call) -> None:
    assert "no alias yet" in call("aliases", ledger.uri).stderr
    told = call("promote", ledger.uri, "--alias", "champion")
    assert "without a test" in told.stdout
    assert "dense" in call("aliases", ledger.uri).stdout


def test_refusals(ledger: Ledger, call: Call) -> None:
    with pytest.raises(DpnError, match="no study 'day'"):
        call("promote", "day", "--runs-uri", ledger.runs_uri)
    with pytest.raises(DpnError, match="no study 'day'"):
        call("aliases", "day", "--runs-uri", ledger.runs_uri)
    with pytest.raises(DpnError, match="alias 'winner' has no rule"):
        call("promote", ledger.uri, "--alias", "winner")
    with pytest.raises(DpnError, match="guard pope: study 'night' asks no questions of it; allowed: heldout"):
        call("promote", ledger.uri, "--guard", "pope", "--dry-run")
    with pytest.raises(DpnError, match="benchmark 'popes' is unknown"):
        call("promote", ledger.uri, "--guard", "popes")
    assert call("promote", ledger.uri, "--guard", "heldout", "--dry-run").exit_code == 0
    with pytest.raises(DpnError, match="study"):
        call("promote", "a/b", "--runs-uri", ledger.runs_uri)
