"""`make compat`: which versions it tries, and that it cannot pass by testing nothing."""

import re

import pytest
from packaging.requirements import Requirement

from tests.versions import compat
from tests.versions.compat import TRIED, Outcome, constraints, counts, ends, pairs, table


@pytest.mark.parametrize("name", TRIED)
def test_ends_are_those_of_the_projects_range(name, wanted):
    allowed = next(one for one in wanted if one.name == name).specifier
    oldest, newest = map(Requirement, ends(name))
    version = str(oldest.specifier).removeprefix("==")
    assert allowed.contains(version)
    assert not allowed.contains(f"{version}.dev0", prereleases=True), "this is not the oldest one"
    assert newest.specifier == allowed


def test_oldest_goes_with_oldest_and_newest_with_newest():
    tried = pairs({"transformers": [], "torch": []})
    assert [pair["transformers"] for pair in tried] == list(ends("transformers"))
    assert [pair["torch"] for pair in tried] == list(ends("torch"))


def test_named_versions_are_tried_with_each_other():
    tried = pairs({"transformers": ["5.20.0"], "torch": ["2.13.0", "2.13.1"]})
    assert [tuple(pair.values()) for pair in tried] == [
        ("transformers==5.20.0", "torch==2.13.0"),
        ("transformers==5.20.0", "torch==2.13.1"),
    ]


def test_all_else_is_the_locks(locked, target):
    left = {Requirement(line).name for line in constraints().splitlines() if line and not line.startswith("#")}
    assert set(locked(target)) - left == {"transformers", "tokenizers", "huggingface-hub"}


@pytest.mark.parametrize(
    ("suite", "passed", "failed"),
    [
        ('tests="9" failures="0" errors="0" skipped="2"', 7, 0),
        ('tests="9" failures="1" errors="2" skipped="2"', 4, 3),
        ('tests="2" failures="0" errors="0" skipped="2"', 0, 1),
        ('tests="0" failures="0" errors="0" skipped="0"', 0, 1),
    ],
)
def test_a_run_without_a_passed_test_is_a_failure(tmp_path, suite, passed, failed):
    report = tmp_path / "report.xml"
    assert counts(report) == (0, 1)
    report.write_text(f"<testsuites><testsuite {suite}/></testsuites>")
    assert counts(report) == (passed, failed)


def test_a_failed_test_is_in_the_table_and_in_the_exit_code(monkeypatch, capsys):
    tried = iter([Outcome("5.17.0", "2.13.0", 300, 0, 61.2), Outcome("5.24.0", "2.13.0", 299, 1, 60.0)])
    monkeypatch.setattr(compat, "try_pair", lambda pair, paths, folder: next(tried))
    monkeypatch.setattr("sys.argv", ["compat.py"])
    with pytest.raises(SystemExit) as ended:
        compat.main()
    assert ended.value.code == 1
    assert re.search(
        r"5\.17\.0 +2\.13\.0 +300 +0 +1m01\n5\.24\.0 +2\.13\.0 +299 +1 +1m00$", capsys.readouterr().out.rstrip()
    )
    assert table([]).split() == ["transformers", "torch", "passed", "failed", "time"]
