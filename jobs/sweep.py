"""Sweep on a cluster: `ray job submit -- python jobs/sweep.py --config YAML [key=value ...]` is `dpn sweep`."""

import argparse
import sys

from dpn_platform.cli.main import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="experiment YAML")
    known, rest = parser.parse_known_args()
    return run(["sweep", known.config, *rest])


if __name__ == "__main__":
    sys.exit(main())
