"""The metrics of every replica of a deployment, called one by one: a late one holds up none of the others."""

import logging
import sys
from typing import Any

from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError
from plumbline_serve.deployments.transport import Replicas
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
