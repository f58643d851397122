"""Evaluate on a cluster: `ray job submit -- python jobs/evaluate.py CHECKPOINT ...` is `dpn evaluate ...`."""

import sys

from dpn_platform.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["evaluate", *sys.argv[1:]]))
