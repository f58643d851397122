"""`dpn study prune`: it lists first, and keeps what fronts, aliases and other studies need."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dpn_platform.storage import list_files, write_bytes, write_json
from dpn_platform.sweeps.lease import Holder
from dpn_platform.sweeps.trials import searched_trial
from tests.sweeps.written_studies import Made, small_trials, write_study


@pytest.fixture
def spare(runs):
    """A study `gamma`, of which one trial is dearer and worse than all others; its runs say whose they are."""
    trials = [*small_trials(), Made(searched_trial(3, "dpn", {}), 0.95, [False] * 200)]
    write_study(runs, "gamma", trials)
    for made in trials:
        write_json(f"{runs}/gamma-{made.trial.key}/provenance.json", {"fingerprint": "f"})
    return trials


def pruned(document, what):
    return {one["trial"] for one in document("prune", "gamma")["found"] if one["what"] == what}


def test_prune_lists_first_and_keeps_what_is_needed(spare, study, document, refused, runs):
    write_bytes(f"{runs}/gamma-dpn-03/notes.txt", b"mine")
    write_bytes(f"{runs}/studies/gamma/tune/attempt-1/state.json", b"{}")
    shown, before = document("show", "gamma"), set(list_files(runs))
    assert "dpn-03" not in shown["front"]

    assert not document("prune", "gamma")["deleted"]
    assert pruned(document, "weights") == {"dpn-03"}
    assert pruned(document, "engine state") == {made.trial.key for made in spare}
    assert "can go: dpn study prune gamma --delete" in study("prune", "gamma").out
    assert set(list_files(runs)) == before, "it was listed"

    assert "MiB deleted" in study("prune", "gamma", "--delete").out

    left = set(list_files(runs))
    assert {uri.removeprefix(f"{runs}/") for uri in before - left} == {
        *(f"gamma-{made.trial.key}/step_00000004/engine/weights" for made in spare),
        *(f"gamma-dpn-03/{file}" for file in ("export/model.safetensors", "outcome.json")),
        "studies/gamma/tune/attempt-1/state.json",
    }
    assert {uri.removeprefix(f"{runs}/") for uri in left - before} == {"studies/gamma/lease/000000.json"}
    assert "nothing can go" in study("prune", "gamma").out
    assert document("show", "gamma")["front"] == shown["front"]
    write_json(f"{runs}/studies/beta/lease/000000.json", asdict(replace(Holder.this_process(), host="node-7")))
    assert "is being run by process" in refused("prune", "beta", "--delete")


def test_prune_keeps_what_others_need(spare, study, document, refused, runs):
    taken = [replace(made, trial=replace(made.trial, reused_from=f"gamma/{made.trial.key}")) for made in spare[::4]]
    assert [made.trial.key for made in taken] == ["dense", "dpn-02"]
    write_study(runs, "delta", [Made(taken[0].trial, 1.0, [False] * 200), taken[1]])
    assert pruned(document, "weights") == {"dpn-03"}
    worst = replace(spare[-1].trial, reused_from="gamma/dpn-03")
    write_study(runs, "epsilon", [Made(worst, 0.9, [True] * 200)])
    assert pruned(document, "weights") == set(), "it is on the front of another study"
    write_study(runs, "zeta", small_trials(), config={"model": {"base": f"{runs}/gamma-dpn-03/export"}})
    (Path(runs.removeprefix("file://")) / "studies" / "epsilon.json").unlink()
    assert pruned(document, "weights") == set(), "another study starts from it"
    write_bytes(f"{runs}/studies/delta/trials/dense.json", b"{")
    assert "study delta is damaged, nobody knows what it needs" in refused("prune", "gamma")


def test_prune_touches_no_folder_that_does_not_say_that_it_is_a_runs(document):
    assert document("prune", "alpha")["found"] == []
