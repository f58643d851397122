"""Prepare data on a cluster: `ray job submit -- python jobs/prepare_data.py make-demo|ingest ...` is `dpn data ...`."""

import sys

from dpn_platform.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["data", *sys.argv[1:]]))
