"""Studies put away: not resumed, nothing deleted, nothing while a driver runs them; and recipes made of studies."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import load_config
from dpn_platform.storage import list_sizes, read_json, write_json
from dpn_platform.sweeps.cloning import cloned
from dpn_platform.sweeps.lease import Holder, latest_holder
from dpn_platform.sweeps.ledger import Ledger, latest_unfinished
from dpn_platform.sweeps.trials import searched_trial
from tests.sweeps.written_studies import small_trials, study_config, write_study

OPEN = [searched_trial(9, "dpn", {})]


@pytest.fixture
def runs(tmp_path):
    return f"file://{tmp_path}/runs"


def test_an_archived_study_is_not_resumed_until_it_is_out_again(runs):
    ledger, config = write_study(runs, "s", small_trials(), unfinished=OPEN), study_config(runs)
    before = set(list_sizes(runs))
    header = ledger.archive()
    assert before <= set(list_sizes(runs)), "nothing is deleted"
    assert header.archived is not None
    with pytest.raises(DpnError, match=rf"archived since {header.archived[:10]}.*dpn study archive s --undo"):
        ledger.open(config)
    with pytest.raises(DpnError, match="no unfinished study of 'try'"):
        latest_unfinished(runs, "try")
    assert ledger.archive(undo=True).archived is None
    assert ledger.open(config).state == "running"
    assert latest_unfinished(runs, "try") == "s"


def test_finishing_keeps_what_the_header_says_beside(runs):
    ledger = write_study(runs, "s")
    archived = ledger.archive().archived
    ledger.finish(99.0)
    assert (ledger.header().archived, ledger.header().duration_s) == (archived, 99.0)


def test_a_study_that_is_run_is_not_archived(runs):
    ledger = write_study(runs, "s", unfinished=OPEN)
    write_json(f"{ledger.uri}/lease/000000.json", asdict(replace(Holder.this_process(), host="elsewhere")))
    with pytest.raises(DpnError, match="is being run by process"):
        ledger.archive()
    assert ledger.header().archived is None


def test_the_lease_is_free_afterwards(runs):
    ledger = write_study(runs, "s")
    ledger.archive()
    holder = latest_holder(f"{ledger.uri}/lease")
    assert holder is not None
    assert holder.released


def test_no_lease_is_left_beside_no_study(runs):
    with pytest.raises(DpnError, match="there is no study 's'"):
        Ledger(runs, "s").archive()
    assert list_sizes(runs) == {}


def test_headers_of_earlier_versions_are_read(runs):
    ledger = write_study(runs, "s")
    document = read_json(ledger.header_uri)
    del document["archived"], document["extensions"]
    write_json(ledger.header_uri, document)
    assert (ledger.header().archived, ledger.header().extensions) == (None, ())


def test_a_recipe_of_a_study(runs, tmp_path):
    copy = cloned(write_study(runs, "s"), ["train.steps=9", "method.name=static", "method.site_kernels=[2x2,1x1,1x2]"])
    file = tmp_path / "copy.yaml"
    file.write_text(copy.text("copy.yaml"))
    assert load_config(file) == copy.config
    assert (copy.config.name, copy.config.train.steps, copy.config.method.name) == ("try-2", 9, "static")
    assert 'name: "try" -> "try-2"' in copy.changes
    assert "#   train.steps: 4 -> 9\n" in copy.text("copy.yaml")


@pytest.mark.parametrize(
    ("name", "expected"), [("a", "a-2"), ("a-2", "a-3"), ("a-9", "a-10"), ("a-20260101", "a-20260101-2")]
)
def test_names_are_numbered_on(runs, name, expected):
    ledger = write_study(runs, "s", config={"name": name})
    assert cloned(ledger, []).config.name == expected
    assert cloned(ledger, ["name=mine"]).config.name == "mine"


def test_what_is_no_recipe_of_a_study(runs):
    ledger = write_study(runs, "s")
    with pytest.raises(ConfigError, match="did you mean 'train.steps'"):
        cloned(ledger, ["train.step=9"])
    with pytest.raises(ConfigError, match="no section 'sweep' is left"):
        cloned(ledger, ["sweep=null"])
