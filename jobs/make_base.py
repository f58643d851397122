"""Make a shipped base again: `python jobs/make_base.py --config jobs/configs/tiny-base.yaml [key=value ...]`."""

import argparse
from functools import partial

from dpn_platform.config.load import load_config
from dpn_platform.services import session
from dpn_platform.services.ray_client import init_ray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="jobs/configs/tiny-base.yaml", help="recipe")
    parser.add_argument("--kind", default="demo", choices=["demo", "detection"], help="of the set it is trained on")
    parser.add_argument("--folder", default="dpn_model/assets/tiny-llava", help="where the base goes")
    parser.add_argument("--name", default="tiny-base", help="name of the training run; the same name continues")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    known = parser.parse_args()
    config = load_config(known.config, known.overrides)
    with session({"s3", "mlflow", "ray"}):  # before ray is imported
        init_ray()
        from dpn_platform.demo.base import make_base

        accuracy = make_base(config, known.folder, known.name, partial(print, flush=True), known.kind)
    print(f"{known.folder}: {accuracy:.1%} of the held-out questions right")


if __name__ == "__main__":
    main()
