"""A replica that holds every encoder; the gateways are one hop away."""

import math
from collections.abc import Sequence

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Preprocessed
from plumbline_serve.assembly import local_compute, make_scorers
from plumbline_serve.batching import EncodedBatch
from plumbline_serve.deployments.hop import Description, EncodingsTooLarge, RemoteContext, message_limit, num_bytes
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
        self, key: str, inputs: Sequence[Preprocessed], claims: RemoteContext, max_reply_bytes: int | None
    ) -> EncodedBatch | EncodingsTooLarge | PlumblineError:
        """As `Compute.encode`; what it raises is returned, so that no transport wraps it.

        Args:
            key: Of the encoder.
            inputs: As the encoder preprocesses them.
            claims: Of the request that they belong to.
            max_reply_bytes: What the reply has room for; None: for anything.
        """
        try:
            encoded = await self._compute.encode(key, inputs, claims.context())
        except PlumblineError as error:
            return error
        if max_reply_bytes is not None and (size := num_bytes(encoded.encodings)) > max_reply_bytes:
            return EncodingsTooLarge(math.ceil(size / len(encoded.encodings)))
        return encoded

    async def describe(self) -> Description:
        """What runs here, and whether it does."""
        return Description(await self._compute.infos(), message_limit(), self._compute.is_ready)

    async def metrics_snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self._instruments.snapshot()

    def check_health(self) -> None:
        """Called by Ray; raises when the replica should be replaced."""
        self._compute.check_alive()
