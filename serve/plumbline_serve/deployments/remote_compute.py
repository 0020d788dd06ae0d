"""The encoders of one group, a hop away: inputs go in messages that Ray lets through, and replies are joined."""

import asyncio
import time
from collections.abc import Sequence

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Preprocessed
from plumbline_serve.batching import EncodedBatch, EncoderLoad
from plumbline_serve.deployments.group_replicas import GroupReplicas
from plumbline_serve.deployments.hop import USUAL_BYTES, EncodingsTooLarge, Part, cut
from plumbline_serve.scheduling.concurrency import together
from plumbline_serve.scheduling.request_context import RequestContext

CALLS_UNDER_WAY = 4
"""Of one request to one encoder: enough for full batches; more would only hold more messages in memory."""


class RemoteCompute:
    """Sends inputs to a group's replicas, in calls that are bounded in bytes and in number; bound to one event loop.

    Args:
        replicas: Of the group.
    """

    def __init__(self, replicas: GroupReplicas) -> None:
        self.replicas = replicas
        self._encoding_bytes: dict[str, int] = {}

    async def encode(self, key: str, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """As `Compute.encode`.

        Args:
            key: As there.
            inputs: As there.
            context: As there.

        Raises:
            CapacityError: No encoder replica could answer; a retry may find another.
        """
        started, turn = time.monotonic(), asyncio.Semaphore(CALLS_UNDER_WAY)
        room, encoding_bytes = self.replicas.room, self._encoding_bytes.get(key, 1)
        usual = min(USUAL_BYTES, room)
        max_items = max(1, (usual if encoding_bytes <= room else USUAL_BYTES) // encoding_bytes)

        async def send(part: Part) -> tuple[float, EncodedBatch]:
            async with turn:
                sent_s = time.monotonic() - started
                return sent_s, await self._send(key, part, context)

        replies = await together(send(part) for part in cut(inputs, max_bytes=usual, max_items=max_items))
        first_s = min((sent_s + reply.queue_s for sent_s, reply in replies), default=0.0)
        last_s = max((sent_s + reply.queue_s + reply.compute_s for sent_s, reply in replies), default=0.0)
        encodings = [each for _, reply in replies for each in reply.encodings]
        return EncodedBatch(encodings=encodings, queue_s=first_s, compute_s=last_s - first_s)

    def load(self, key: str) -> EncoderLoad | None:
        """As `Compute.load`."""
        return self.replicas.loads.load(key)

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.reserve`; the replicas place a request once its inputs are there."""
        self.replicas.loads.reserve(key, context, num_inputs)

    def release(self, context: RequestContext) -> None:
        """As `Compute.release`."""
        self.replicas.loads.release(context)

    async def _send(self, key: str, part: Part, context: RequestContext) -> EncodedBatch:
        room = self.replicas.room if self.replicas.is_limited else None
        by_reference = room is not None and max(part.num_bytes, self._encoding_bytes.get(key, 0)) > room
        max_bytes = None if by_reference else room
        result = await self.replicas.encode(key, part.inputs, context, max_reply_bytes=max_bytes)
        if isinstance(result, EncodingsTooLarge):
            self._encoding_bytes[key] = max(result.encoding_bytes, self._encoding_bytes.get(key, 0))
            result = await self.replicas.encode(key, part.inputs, context, max_reply_bytes=None)
        if isinstance(result, PlumblineError):
            raise result
        self.replicas.loads.answered(key, context, len(part.inputs))
        encoded: EncodedBatch = result
        return encoded
