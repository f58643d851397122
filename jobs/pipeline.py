"""One slot of a schedule: `python jobs/pipeline.py --config YAML [--slot 2026-11-25]` is `dpn pipeline run`."""

import argparse
import sys

from dpn_platform.cli.main import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="experiment YAML with the section pipeline")
    known, rest = parser.parse_known_args()
    return run(["pipeline", "run", known.config, *rest])


if __name__ == "__main__":
    sys.exit(main())
