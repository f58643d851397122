"""What a verb needs before its work: the services it uses, no others, and the demo set where it is asked for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from dpn_platform.cli.console import note, progress
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.recipe import DEMO_URI, DemoRecipe

if TYPE_CHECKING:
    from dpn_platform.data.published.manifest import Manifest


@contextmanager
def services_for(*addresses: str | None, ray: bool = True, mlflow: bool = False) -> Iterator[None]:
    """The services a verb needs, the user's own or embedded; what is started for it ends with it, and both are said.

    Args:
        addresses: what is read and written, with or without `split=`; S3 is needed where one is on `s3://`.
        ray: whether it is needed; then Ray is initialised.
        mlflow: whether it is needed; one that runs is used in any case.
    """
    from dpn_platform.services import session

    on_s3 = any("s3://" in (address or "") for address in addresses)
    needs = {name for name, wanted in (("s3", on_s3), ("mlflow", mlflow), ("ray", ray)) if wanted}
    if not needs:
        yield
        return
    started: list[str] = []

    def tell(service: str, message: str) -> None:
        if message.startswith("up at"):
            started.append(service)
        if not message.startswith(("running at", "stopped")):
            note(f"{service}: {message}")

    with _sigterm_is_ctrl_c() as heed, ExitStack() as stack:
        with progress("connecting to the services"):
            stack.enter_context(session(needs, on_progress=tell))  # before ray is imported: it reads the environment
            if ray:
                from dpn_platform.services.ray_client import init_ray

                init_ray()
                heed()
        if started:
            note(f"started for this command, with which they end: {', '.join(started)} (`dpn up` keeps them)")
        yield


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[Callable[[], None]]:
    """`kill`, `ray job stop` and schedulers send SIGTERM: end as orderly as Ctrl-C does.

    Yields:
        To be called once Ray is initialised, which puts a handler of its own in place.
    """

    def interrupt(*_: Any) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # a shell's background job
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # not the exception: Ray Tune and Ray Train have handlers of their own

    def heed() -> None:
        if is_main:
            signal.signal(signal.SIGTERM, interrupt)

    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGTERM)
    heed()
    try:
        yield heed
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


def stores_for(config: ExperimentConfig) -> AbstractContextManager[None]:
    """What reading a study's data, runs and base needs, and no more: no cluster, no tracker, no demo set is made."""
    return services_for(*_stores_of(config), ray=False)


def _stores_of(config: ExperimentConfig) -> tuple[str, ...]:
    return config.data.uri, config.storage.runs_uri, config.model.base


@contextmanager
def services_of(config: ExperimentConfig) -> Iterator[None]:
    """The services of a tracked run or study; the demo set is made where it is asked for and not there."""
    with services_for(*_stores_of(config), config.tracking.uri, mlflow=config.tracking.needs_mlflow_service):
        from dpn_platform.data.published.manifest import FILE_NAME
        from dpn_platform.storage import exists, join_uri

        if config.data.uri.rstrip("/") == DEMO_URI and not exists(join_uri(DEMO_URI, FILE_NAME)):
            prepare_demo(DemoRecipe())
        yield


def prepare_demo(recipe: DemoRecipe, **options: Any) -> Manifest:
    """The published demo set, made where it is not there, with a bar of its progress; options as `ensure_demo`."""
    from dpn_platform.demo.prepare import ensure_demo

    with progress("preparing the demo set") as advance:
        return ensure_demo(
            recipe, on_progress=lambda stage, done, total: advance(done, f"{stage} the demo set", total), **options
        )
