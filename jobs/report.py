"""Report on a cluster: `ray job submit -- python jobs/report.py EXPERIMENT ...` is `dpn report ...`."""

import sys

from dpn_platform.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["report", *sys.argv[1:]]))
