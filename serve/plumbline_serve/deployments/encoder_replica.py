"""A replica that holds every encoder; the gateways are one hop away."""

from collections.abc import Sequence

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Prepared
from plumbline_serve.assembly import local_compute, make_scorers
from plumbline_serve.compute import EncodedRows
from plumbline_serve.deadline import Deadline
from plumbline_serve.deployments.logs import log_as_ray_serve_does
from plumbline_serve.deployments.loopback import keep_grpc_local
from plumbline_serve.metrics import Instruments, Snapshot
from plumbline_serve.settings import Settings


class EncoderReplica:
    """Runs encoders for all gateways, so that batches form across all of them.

    Takes work only once every encoder is loaded, compiled and warmed: Ray routes nothing to a replica whose
    constructor has not returned.
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        log_as_ray_serve_does()
        keep_grpc_local()
        self._instruments = Instruments()
        scorers = make_scorers(settings, on_fallback=self._instruments.fell_back, on_lookup=self._instruments.looked_up)
        self._compute = local_compute(settings, scorers.values(), self._instruments)
        await self._compute.start()

    async def encode(
        self, key: str, inputs: Sequence[Prepared], remaining_s: float | None
    ) -> EncodedRows | PlumblineError:
        """As `Compute.encode`; what it raises is returned, so that no transport wraps it."""
        try:
            return await self._compute.encode(key, inputs, Deadline.after_s(remaining_s))
        except PlumblineError as error:
            return error

    async def infos(self) -> Sequence[EncoderInfo]:
        """As `Compute.infos`."""
        return await self._compute.infos()

    async def metrics_snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self._instruments.snapshot()

    def check_health(self) -> None:
        """Called by Ray; raises when the replica should be replaced."""
        self._compute.check_alive()
