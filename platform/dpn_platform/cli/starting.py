"""What `dpn train` and `dpn sweep` do first: connect to the services, and make the demo set where it is asked for."""

from __future__ import annotations

from dpn_platform.cli.console import progress
from dpn_platform.config.schema import ExperimentConfig

#: of the demo set, where there is none
DEMO_TRAIN, DEMO_TEST = 6000, 1000


def connect_services() -> None:
    """The configured services, or the embedded ones, started if need be; Ray is initialised."""
    from dpn_platform.services import connect

    with progress("connecting to the services"):
        connect(start=True)  # before the first import of ray, which reads the environment
        from dpn_platform.services.ray_client import init_ray

        init_ray()


def ensure_demo_set(config: ExperimentConfig) -> None:
    """The demo set is made where there is none; any other set has to be there."""
    from dpn_platform.data.manifest import FILE_NAME
    from dpn_platform.data.prepare import DEMO_URI, DemoRecipe, ensure_demo
    from dpn_platform.storage import exists, join_uri

    if config.data.uri.rstrip("/") != DEMO_URI or exists(join_uri(DEMO_URI, FILE_NAME)):
        return
    with progress("preparing the demo set") as advance:
        ensure_demo(
            DemoRecipe(num_train=DEMO_TRAIN, num_test=DEMO_TEST),
            on_progress=lambda stage, done, total: advance(done, f"{stage} the demo set", total),
        )
