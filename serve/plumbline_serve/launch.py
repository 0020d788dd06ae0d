"""Runs the application on a Ray cluster of this machine alone, until it is told to stop.

Import it only after `prepare_environment`: Ray reads its environment when it is imported.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve as ray_serve
from ray.exceptions import RayError

from plumbline_serve.app import APP_NAME, build, grpc_options
from plumbline_serve.settings import Settings

log = logging.getLogger(__name__)
OBJECT_STORE_BYTES = 200 * 2**20  # nothing large goes through it


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """The service, ready for callers; on leaving it drains and everything stops.

    Raises:
        RuntimeError: The application could not be deployed.
    """
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
        num_cpus=max(2, int(_cpus_wanted(settings)) + 1) if settings.replicas.layout == "split" else None,
    )
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        ray_serve.start(
            http_options={"host": settings.host, "port": settings.port},
            grpc_options=grpc_options(settings.grpc_port),
        )
        ray_serve.run(build(settings), name=APP_NAME, route_prefix="/")
        yield
        asyncio.run(_drain())
    finally:
        ray_serve.shutdown()
        ray.shutdown()


def wait_for_signal() -> None:
    """Block until SIGTERM or SIGINT."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    told.wait()


async def _drain() -> None:
    """Have every gateway answer what it has taken and refuse what comes."""
    try:
        await ray_serve.get_app_handle(APP_NAME).broadcast("drain").results_async()
    except RayError as error:
        log.warning("draining failed: %s", type(error).__name__)


def _cpus_wanted(settings: Settings) -> float:
    replicas = settings.replicas
    return replicas.num_encoders * replicas.encoder_cpus + replicas.num_gateways * replicas.gateway_cpus
