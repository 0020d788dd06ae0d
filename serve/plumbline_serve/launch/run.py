"""Runs the application on a Ray cluster of this machine alone, until it is told to stop.

Import it only after `set_ray_environment`: Ray reads its environment when it is imported. It expects a process of its
own that `supervisor.supervise` started: a signal before the service is ready ends this process on the spot, and the
supervisor ends what Ray had started.
"""

import asyncio
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import grpc
import ray
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.signal_stack import use_roomy_signal_stack
from plumbline_serve.app import APP_NAME, grpc_options
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.lean_node import lean_nodes
from plumbline_serve.deployments.logs import log_as_the_command_does, relay_lines
from plumbline_serve.deployments.transport import translated
from plumbline_serve.haproxy.plan import LOOPBACK
from plumbline_serve.launch.ray_environment import (
    OBJECT_STORE_BYTES,
    num_workers,
    reserved_cpus,
    shortage,
)
from plumbline_serve.launch.redeploy import Running, await_application, deploy
from plumbline_serve.launch.supervisor import STOP_SIGNALS, Report, Stage
from plumbline_serve.launch.watch import answers_ready
from plumbline_serve.logs import LogFormat
from plumbline_serve.machine.ports import ANY_HOST
from plumbline_serve.settings import Settings
from plumbline_serve.settings.source import ConfigSource

log = logging.getLogger(__name__)
START_ATTEMPTS = 3
POLL_S = 0.1
FRONT_TIMEOUT_S = 120.0  # from a gateway that is ready to HAProxy that sends callers to it; a second where it is idle
LATE_S = 5.0
SERVE_STOP_S, RAY_STOP_S = 25.0, 10.0  # each a few times what it takes on a busy machine


@dataclass(frozen=True, slots=True)
class Place:
    """Where one service listens."""

    inner_host: str
    """Of Ray's own servers."""
    fronts: tuple[str, str]
    """Where this machine is answered, over REST and over gRPC."""
    log_format: LogFormat
    """Of what this machine's processes log."""


@contextmanager
def running(settings: Settings, source: ConfigSource, place: Place, report: Report) -> Iterator[Callable[[], None]]:
    """The service, ready for callers, and what waits for a signal to stop; on leaving it drains and stops.

    Args:
        settings: What to run first.
        source: Where they come from, and are read anew at SIGHUP.
        place: Where it listens.
        report: Told how far it has come.

    Raises:
        RuntimeError: The application could not be deployed.
    """
    _on_signal(_leave)
    log_as_the_command_does()
    _start_ray(settings)
    relay_lines(place.log_format)
    use_roomy_signal_stack()  # again, as below: Ray has set one of its own
    _on_signal(_leave)  # Ray has installed a handler
    report(Stage.STARTED)
    try:
        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if missing := shortage(settings, found):
            raise RuntimeError(missing)
        generation = Generation(time.time_ns(), settings)
        _deploy(generation, place.inner_host)
        _await_front(*place.fronts)
        service = Running(generation, source)
        wait_until_told = _told_to_stop(service.change_aside)
        report(Stage.READY)
        try:
            yield wait_until_told
        finally:
            report(Stage.STOPPING)
            drain_s = service.settings.replicas.drain_timeout_s
            _within(drain_s + SERVE_STOP_S, "Ray Serve was not stopped", lambda: asyncio.run(_stop(drain_s)))
    finally:
        report(Stage.STOPPING)
        _within(RAY_STOP_S, "Ray was not stopped", ray.shutdown)


def _within(seconds: float, late: str, action: Callable[[], object]) -> None:
    """Do something that Ray gives no time limit; what is late is left to the supervisor, which ends every process.

    Args:
        seconds: That it may take.
        late: What the log says then.
        action: To be done.
    """

    def do() -> None:
        try:
            action()
        except Exception:
            log.exception("stopping failed: %s", late)

    thread = threading.Thread(target=do, name="stop", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("%s in %.0f s", late, seconds)


def shown_host(settings: Settings) -> str:
    """A host that callers on this machine can use."""
    return LOOPBACK if settings.host in {ANY_HOST, "::"} else settings.host


def _start_ray(settings: Settings) -> None:
    """Start a cluster; on a busy machine Ray gives up on its own processes too soon, so try again."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with lean_nodes(num_workers(settings)):
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    configure_logging=False,
                    num_cpus=_num_cpus(settings),
                )
        except SystemExit:  # what Ray's own handler of SIGTERM raises
            _leave()
        except Exception as error:  # Ray raises a bare one for a node that is late
            ray.shutdown()
            if attempt == START_ATTEMPTS or "timed out" not in str(error):
                raise RuntimeError("Ray could not be started on this machine.") from error
            log.warning("Ray was late to start; trying again")
        else:
            return


def _num_cpus(settings: Settings) -> int | None:
    """That Ray may give out, with room for a second configuration's replicas; None: those of the machine."""
    return max(2, math.ceil(2 * reserved_cpus(settings))) if settings.replicas.layout == "split" else None


def _deploy(generation: Generation, inner_host: str) -> None:
    """Start Serve and the application, and wait until callers are answered."""
    settings = generation.settings
    try:
        with ThreadPoolExecutor(1, "serve") as threads:
            started = threads.submit(
                ray_serve.start,
                http_options={"host": inner_host, "port": settings.port},
                grpc_options=grpc_options(settings),
                logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
            )
            _await_controller(started)  # its proxies and the application come up beside each other
            deploy(generation)
            await_application()
            with suppress(TimeoutError):  # Ray gives its proxies a minute; on a busy machine they come up later
                started.result()
        log_as_the_command_does()  # again: Ray Serve has given its logger handlers
    except (RayError, RayServeException, TimeoutError) as error:
        log.warning("Ray says: %s", error)
        raise RuntimeError(f"Ray Serve could not be started ({type(error).__name__}).") from error


def _await_controller(started: "Future[Any]") -> None:
    """Wait until Serve's controller has its name, or until starting Serve has ended."""
    while not started.done():
        try:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        except ValueError:
            time.sleep(POLL_S / 5)
        else:
            return


def _await_front(rest: str, rpcs: str) -> None:
    """Wait until HAProxy sends the callers of both ports to a gateway.

    Args:
        rest: Where REST is answered.
        rpcs: Where gRPC is.

    Raises:
        RuntimeError: It does not.
    """
    until = time.monotonic() + FRONT_TIMEOUT_S
    for address, answers in ((rest, answers_ready), (rpcs, _answers_grpc)):
        while not answers(address):
            if time.monotonic() > until:
                raise RuntimeError(f"A gateway is ready, but HAProxy does not send callers of {address} to it.")
            time.sleep(POLL_S)


def _answers_grpc(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods are made at run time
            stub.Check(health_pb2.HealthCheckRequest(), timeout=POLL_S * 20)
        except grpc.RpcError:
            return False
    return True


def _on_signal(action: Callable[[int, FrameType | None], None]) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, action)


def _leave(*_: object) -> None:
    """Before the service is ready nobody waits for an answer: end at once, wherever Ray is waiting."""
    log.warning("stopped before the service was ready")
    os._exit(0)


def _told_to_stop(at_hangup: Callable[[], None]) -> Callable[[], None]:
    """A call that returns once SIGTERM or SIGINT has come.

    Args:
        at_hangup: Called at each SIGHUP until then.

    A pipe and no `threading.Event`: its lock would be taken twice where one signal's handler interrupts another's.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)  # first: between the two a signal would be lost
    _on_signal(lambda *_: None)
    signal.signal(signal.SIGHUP, lambda *_: None)

    def wait() -> None:
        while (number := os.read(told, 1)[0]) not in STOP_SIGNALS:
            if number == signal.SIGHUP:
                at_hangup()

    return wait


async def _stop(drain_s: float) -> None:
    """Have every gateway answer what it has taken and refuse what comes; then end the application.

    In one event loop: Serve's handles belong to the loop that they were first used on.
    """
    try:
        async with asyncio.timeout(drain_s + LATE_S):  # the gateways keep to the time, unless they hang
            with translated(APP_NAME):
                await ray_serve.get_app_handle(APP_NAME).broadcast("drain").results_async()
    except (PlumblineError, RayError, TimeoutError) as error:
        log.warning("the service was stopped without draining: %s", type(error).__name__)
    await ray_serve.shutdown_async()  # type: ignore[no-untyped-call]
