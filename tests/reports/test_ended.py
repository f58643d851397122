"""What a report says of trials that ended early."""

from dpn_platform.reports.study.ended import ended_sentence, ended_tables

META = {
    "stopped": {"dpn-03": "at step 60 it can <never> win"},
    "stopping": {"ended": 1, "saved_device_hours": 0.754, "device_hours": 2.0},
    "proxies": {"60": {"trials": 9, "loss": 0.83, "exact": None, "kl": -0.1}},
}


def test_who_ended_why_and_what_it_saved():
    assert ended_sentence(META) == (
        "1 trials of the search ended early and have no point. Had each taken as long as one that ran to its end, they "
        "would have taken about 0.75 device-hours more; the whole study took 2.00."
    )
    told = ended_tables(META)
    assert "it can &lt;never&gt; win" in told
    for cell in ("dpn-03", "+0.83", "not known", "-0.10", "Rank correlation"):
        assert cell in told


def test_a_study_without_rungs_says_nothing_of_them():
    assert ended_sentence({}) == ended_tables({}) == ""
    assert ended_sentence({"stopped": {"a": "hopeless"}}).endswith("have no point.")
