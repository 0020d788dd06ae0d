"""The metrics of every replica of a deployment, asked one by one: a late one holds up none of the others."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from plumbline_serve.metrics import LastSnapshots, Snapshot

log = logging.getLogger(__name__)
SCRAPE_TIMEOUT_S = 5.0  # half of what Prometheus waits for; of a replica that is later, the last answer counts


class DeploymentMetrics:
    """What the replicas of a deployment count.

    Args:
        handle: Of a deployment whose replicas have a method `metrics_snapshot`.
        timeout_s: How long a replica may take.
    """

    def __init__(self, handle: DeploymentHandle[Any], *, timeout_s: float = SCRAPE_TIMEOUT_S) -> None:
        self._handle = handle
        self._timeout_s = timeout_s
        self._last = LastSnapshots()

    async def gather(self) -> list[Snapshot]:
        """A snapshot of each replica: of now, or the last one of a replica that is late."""
        asked = await self._ask()
        if asked is None:
            return self._last.update([], num_late=sys.maxsize)
        done, late = await asyncio.wait(asked, timeout=self._timeout_s)
        for each in late:
            each.cancel()
        failed = [each for each in done if each.cancelled() or each.exception() is not None]
        num_late = len(late) + len(failed)
        if num_late:
            log.warning("%d of %d replicas of %s did not answer a scrape", num_late, len(asked), self._name)
        return self._last.update([each.result() for each in done if each not in failed], num_late=num_late)

    @property
    def _name(self) -> str:
        return str(self._handle.deployment_name)

    async def _ask(self) -> Sequence[asyncio.Future[Snapshot]] | None:
        """The answers under way, one a replica; None where no replica could be asked."""
        broadcast = self._handle.broadcast("metrics_snapshot")
        try:
            async with asyncio.timeout(self._timeout_s):
                # What is public waits for all of them, and loses the answers of all where one is late.
                results = await broadcast._fetch_replica_results_async()  # noqa: SLF001
        except (TimeoutError, RayError, RayServeException) as error:
            log.warning("the replicas of %s cannot be scraped: %s", self._name, type(error).__name__)
            return None
        return [asyncio.ensure_future(result.get_async()) for result in results]  # type: ignore[no-untyped-call]
