"""Runs the application on a Ray cluster of this machine alone, until it is told to stop.

Import it only after `prepare_environment`: Ray reads its environment when it is imported.
"""

import asyncio
import logging
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from plumbline_serve.app import APP_NAME, build, grpc_options
from plumbline_serve.settings import Settings

log = logging.getLogger(__name__)
START_ATTEMPTS = 3
OBJECT_STORE_BYTES = 200 * 2**20  # nothing large goes through it


@contextmanager
def running(settings: Settings) -> Iterator[threading.Event]:
    """The service, ready for callers, and the event that a signal to stop sets; on leaving it drains and stops.

    Raises:
        RuntimeError: The application could not be deployed.
    """
    _start_ray(settings)
    told = _listen()
    try:
        _deploy(settings)
        yield told
    finally:
        asyncio.run(_stop())
        ray.shutdown()


def _start_ray(settings: Settings) -> None:
    """Start a cluster; on a busy machine Ray gives up on its own processes too soon, so try again."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                logging_level=logging.WARNING,
                num_cpus=max(2, math.ceil(_cpus_wanted(settings))) if settings.replicas.layout == "split" else None,
            )
        except Exception as error:  # Ray raises a bare one for a node that is late
            ray.shutdown()
            if attempt == START_ATTEMPTS or "timed out" not in str(error):
                raise RuntimeError("Ray could not be started on this machine.") from error
            log.warning("Ray was late to start; trying again")
        else:
            return


def _deploy(settings: Settings) -> None:
    """Start Serve and the application, and wait until it is ready."""
    try:
        with suppress(TimeoutError):  # Ray gives its proxies a minute; on a busy machine they come up later
            ray_serve.start(
                http_options={"host": settings.host, "port": settings.port},
                grpc_options=grpc_options(settings.grpc_port),
                logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
            )
        ray_serve.run(build(settings), name=APP_NAME, route_prefix="/")
    except (RayError, RayServeException, TimeoutError) as error:
        log.warning("Ray says: %s", error)
        raise RuntimeError(f"Ray Serve could not be started ({type(error).__name__}).") from error


def _listen() -> threading.Event:
    """An event that SIGTERM and SIGINT set; after `ray.init`, which installs handlers of its own."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told


async def _stop() -> None:
    """Have every gateway answer what it has taken and refuse what comes; then end the application.

    In one event loop: Serve's handles belong to the loop that they were first used on.
    """
    try:
        await ray_serve.get_app_handle(APP_NAME).broadcast("drain").results_async()
    except (RayError, RayServeException) as error:
        log.warning("the service was stopped without draining: %s", type(error).__name__)
    await ray_serve.shutdown_async()  # type: ignore[no-untyped-call]


def _cpus_wanted(settings: Settings) -> float:
    replicas = settings.replicas
    return replicas.num_encoders * replicas.encoder_cpus + replicas.num_gateways * replicas.gateway_cpus
