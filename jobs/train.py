"""Train on a cluster: `ray job submit -- python jobs/train.py --config YAML [key=value ...]` is `dpn train`."""

import argparse
import sys

from dpn_platform.cli.main import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="experiment YAML")
    known, rest = parser.parse_known_args()
    return run(["train", known.config, *rest])


if __name__ == "__main__":
    sys.exit(main())
