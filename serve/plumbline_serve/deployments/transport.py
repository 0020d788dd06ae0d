"""Calls to the replicas of another deployment. Every error of the way there becomes one of ours here, and nowhere else.

Ray raises its own errors, bare gRPC errors for all codes but one, and a `RuntimeError` where a replica's answer lacks
its metadata, as when a message is too large.
"""

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError, OverloadedError, PlumblineError
from plumbline_serve.metrics import LastSnapshots, Snapshot

log = logging.getLogger(__name__)

AWAY_RETRY_AFTER_S = 2.0
SCRAPE_TIMEOUT_S = 5.0  # half of what Prometheus waits for; of a replica that is later, the last answer counts
_SHOWN = 300  # characters of Ray's words that the log gets


class Replicas:
    """The replicas of one deployment, as another one calls them."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self.name = str(handle.deployment_name)

    @property
    def is_limited(self) -> bool:
        """Whether calls go as gRPC messages, whose size is bounded, unless another way is asked for."""
        return not getattr(self._handle.handle_options, "_by_reference", False)

    async def call(self, method: str, *args: Any, by_reference: bool = False) -> Any:
        """Call one replica.

        Args:
            method: Its name.
            *args: What it takes.
            by_reference: Send arguments and answer through Ray's object store: slower, and without a limit.

        Raises:
            CapacityError: No replica could answer; a retry may find another.
        """
        handle = self._handle.options(_by_reference=True) if by_reference else self._handle
        with translated(self.name):
            return await getattr(handle, method).remote(*args)

    async def call_each(
        self, method: str, *args: Any, timeout_s: float, away_level: int = logging.WARNING
    ) -> list[Any]:
        """Call every replica that is there.

        Args:
            method: Its name.
            *args: What it takes.
            timeout_s: How long each may take.
            away_level: Of the line of the log where there is none.

        Returns:
            What each answered, or the error that stands for it; `TimeoutError` where one was late.

        Raises:
            CapacityError: There is no replica.
        """
        try:
            with translated(self.name, away_level):
                async with asyncio.timeout(timeout_s):
                    # What is public waits for all of them, and loses the answers of all where one is late.
                    found = await self._handle.broadcast(method, *args)._fetch_replica_results_async()  # noqa: SLF001
        except TimeoutError as error:  # Ray does not know yet which there are
            return [error]
        answers = [asyncio.create_task(_answer(each, self.name)) for each in found]
        if answers:
            await asyncio.wait(answers, timeout=timeout_s)
        return [_outcome(answer) for answer in answers]


class DeploymentMetrics:
    """What the replicas of a deployment count; they are called one by one, so that a late one holds up no other.

    Args:
        handle: Of a deployment whose replicas have a method `metrics_snapshot`.
        timeout_s: How long a replica may take.
    """

    def __init__(self, handle: DeploymentHandle[Any], *, timeout_s: float = SCRAPE_TIMEOUT_S) -> None:
        self._replicas = Replicas(handle)
        self._timeout_s = timeout_s
        self._last = LastSnapshots()

    async def gather(self) -> list[Snapshot]:
        """A snapshot of each replica: of now, or the last one of a replica that is late."""
        try:
            found = await self._replicas.call_each("metrics_snapshot", timeout_s=self._timeout_s)
        except CapacityError:
            return self._last.update([], num_late=sys.maxsize)
        snapshots = [each for each in found if not isinstance(each, BaseException)]
        num_late = len(found) - len(snapshots)
        if num_late:
            log.warning("%d of %d replicas of %s did not answer a scrape", num_late, len(found), self._replicas.name)
        return self._last.update(snapshots, num_late=num_late)


@contextmanager
def translated(deployment: str, away_level: int = logging.WARNING) -> Iterator[None]:
    """Turn what goes wrong on the way to another deployment into errors of ours.

    Args:
        deployment: Its name.
        away_level: Of the line of the log where its replicas cannot be reached.

    Raises:
        CapacityError: Its replicas cannot be reached.
        OverloadedError: Ray's queue before them is full.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _away(deployment, error, away_level) from error  # gRPC's own: the channel was closed
    except (PlumblineError, TimeoutError):
        raise
    except BackPressureError as error:
        raise OverloadedError("The service has more work than it can queue; try again later.") from error
    except RayTaskError as error:
        if not isinstance(error.cause, RayError | RayServeException | grpc.RpcError):
            raise  # the replica was reached, and its program failed
        raise _away(deployment, error.cause, away_level) from error
    except (RayError, RayServeException, grpc.RpcError, RuntimeError, OSError) as error:
        raise _away(deployment, error, away_level) from error


def _away(deployment: str, error: BaseException, level: int) -> CapacityError:
    log.log(level, "the replicas of %s cannot be reached: %s", deployment, repr(error)[:_SHOWN])
    return CapacityError(
        "The encoders cannot be reached at the moment; try again.",
        retry_after_s=AWAY_RETRY_AFTER_S,
        deployment=deployment,
    )


async def _answer(result: Any, deployment: str) -> Any:
    with translated(deployment):
        return await result.get_async()


def _outcome(answer: "asyncio.Task[Any]") -> Any:
    if not answer.done():
        answer.cancel()
        return TimeoutError("The replica was late.")
    return answer.exception() or answer.result()
