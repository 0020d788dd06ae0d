"""A replica of an encoder group; the gateways are one hop away."""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Preprocessed
from plumbline_serve.assembly import local_compute
from plumbline_serve.batching import EncodedBatch, check_wait
from plumbline_serve.configured_scorers import encoders_by_group, make_scorers
from plumbline_serve.deployments.autoscaling import QUEUED_S
from plumbline_serve.deployments.collecting import collect_seldom
from plumbline_serve.deployments.fixed_inputs import Sample, Verdict
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.handover import Handover, running_before
from plumbline_serve.deployments.hop import (
    Answer,
    Call,
    Description,
    EncodingsTooLarge,
    Loads,
    OtherGeneration,
    RemoteContext,
    message_limit,
    num_bytes,
)
from plumbline_serve.deployments.logs import log_as_ray_serve_does
from plumbline_serve.deployments.loopback import keep_grpc_local
from plumbline_serve.metrics import Instruments, Snapshot
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.tracing import open_tracing


class EncoderReplica:
    """Runs a group's encoders for all gateways, so that batches form across all of them.

    Takes work only once every encoder is loaded, compiled and warmed: Ray routes nothing to a replica whose
    constructor has not returned.

    Args:
        generation: What is configured.
        group: The group's name.
        before: Deployments of the groups whose place those of this configuration take, if these are others.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, generation: Generation, group: str, before: Sequence[DeploymentHandle[Any]] = ()
    ) -> None:
        collect_seldom()
        log_as_ray_serve_does(generation.settings.log_level, f"encoders:{group}")
        keep_grpc_local()
        self._name = uuid.uuid4().hex
        self._instruments = Instruments(group)
        self._generation, self._digest = generation, generation.digest(group)
        own = generation.settings.of_group(group)
        scorers = make_scorers(own, on_fallback=self._instruments.fell_back, on_lookup=self._instruments.looked_up)
        encoders = encoders_by_group(own, scorers)[group]
        self._tracing = open_tracing(own.tracing)
        self._compute = local_compute(own, encoders, self._instruments, tracing=self._tracing)
        await self._compute.start()
        parts: dict[str, Any] = {"compute": self._compute, "instruments": self._instruments}
        self._handover = Handover(generation.number, scorers.values(), encoders, **parts)
        await self._handover.check(await running_before(before))

    async def encode(
        self, call: Call, inputs: Sequence[Preprocessed], claims: RemoteContext, max_reply_bytes: int | None
    ) -> Answer:
        """As `Compute.encode`; what it raises is returned, so that no transport wraps it.

        A request is refused here too if it would be done after its deadline: the gateways know of each other's work
        only by what the answers said of the load.

        Args:
            call: The encoder's key, and the digest of the group as the caller knows it.
            inputs: As the encoder preprocesses them.
            claims: Of the request that they belong to.
            max_reply_bytes: What the reply has room for; None: for anything.
        """
        if call.digest != self._digest:
            return Answer(OtherGeneration(self._generation), self._loads())
        try:
            with nullcontext() if self._tracing is None else self._tracing.continued(claims.trace):
                result = await self._encode(call.key, inputs, claims.context())
        except PlumblineError as error:
            return Answer(error, self._loads())
        if max_reply_bytes is not None and (size := num_bytes(result.encodings)) > max_reply_bytes:
            return Answer(EncodingsTooLarge(math.ceil(size / len(result.encodings))), self._loads())
        return Answer(result, self._loads())

    async def describe(self) -> Description:
        """What runs here, and whether it does."""
        infos, is_ready = await self._compute.infos(), self._compute.is_ready
        return Description(self._generation, self._digest, infos, message_limit(), is_ready, self._loads())

    async def generation_number(self) -> int:
        """Of the configuration."""
        return self._handover.number

    async def compare(self, number: int, after: Mapping[str, Sample]) -> Mapping[str, Verdict]:
        """As `Handover.compare`.

        Args:
            number: As there.
            after: As there.
        """
        return await self._handover.compare(number, after)

    async def metrics_snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self._instruments.snapshot()

    async def _encode(self, key: str, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        if (load := self._compute.load(key)) is not None and inputs:
            forecast = load.forecast(context, len(inputs))
            wait_s = forecast.done_s - forecast.own_s
            check_wait(context, time.monotonic(), done_s=forecast.done_s, wait_s=wait_s)
        return await self._compute.encode(key, inputs, context)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray: the seconds until all would be done that waits for the slowest encoder."""
        return {QUEUED_S: max((load.drain_s for load in self._compute.loads().values()), default=0.0)}

    def _loads(self) -> Loads:
        return Loads(self._name, self._compute.loads())

    def check_health(self) -> None:
        """Called by Ray; raises when the replica should be replaced."""
        self._compute.check_alive()
