"""One command line in every schedule: a slot of the nightly pipeline, of which each may be started again."""

import configparser
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEDULES = ROOT / "infra" / "schedules"
LINE = "jobs/pipeline.py --config jobs/configs/nightly.yaml"


def test_every_schedule_runs_the_same_line():
    for path in sorted(SCHEDULES.iterdir()):
        if path.suffix == ".timer":
            continue
        text = path.read_text()
        words = " ".join(text.replace("- ", " ").split())
        assert LINE in words, path.name
        assert "jobs/sweep.py" not in text, path.name


def test_the_crontab_has_one_entry_of_the_checkout():
    [line] = [line for line in (SCHEDULES / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    minute, hour, *rest = line.split(None, 5)
    assert (minute.isdigit(), hour.isdigit(), rest[:3]) == (True, True, ["*", "*", "*"])
    assert "%" not in rest[3], "cron would end the command there"
    assert shlex.split(rest[3])


def test_the_units_fit_together():
    service, timer = (configparser.ConfigParser(interpolation=None, strict=False) for _ in range(2))
    for parser, name in ((service, "dpn-nightly.service"), (timer, "dpn-nightly.timer")):
        parser.optionxform = str
        parser.read(SCHEDULES / name)
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["ExecStart"].endswith(LINE)
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"
