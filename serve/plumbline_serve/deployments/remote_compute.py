"""The encoders of one group, a hop away behind a Ray Serve handle."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError, PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Preprocessed
from plumbline_serve.batching import EncodedBatch, EncoderLoad, GroupState
from plumbline_serve.concurrency import together
from plumbline_serve.deployments.hop import (
    LIMIT_VARIABLE,
    USUAL_BYTES,
    Answer,
    Description,
    EncodingsTooLarge,
    Part,
    RemoteContext,
    cut,
    message_limit,
    room_in,
)
from plumbline_serve.deployments.remote_loads import RemoteLoads
from plumbline_serve.deployments.transport import AWAY_RETRY_AFTER_S, Replicas
from plumbline_serve.request_context import RequestContext

log = logging.getLogger(__name__)

CALLS_UNDER_WAY = 4
"""Of one request to one encoder: enough for full batches; more would only hold more messages in memory."""
LOOK_PERIOD_S = 2.0
LOOK_TIMEOUT_S = 10.0  # a batch on a busy machine may hold the interpreter for seconds
MAX_LATE = 3
"""Looks in a row that no replica answers in time before the encoders are taken for away."""


class RemoteCompute:
    """Sends inputs to a group's replicas, in calls that are bounded in bytes and in number; bound to one event loop.

    It is told when to look for the replicas, and remembers what they say of themselves. While there is none, calls
    are refused at once, those that wait for one included, instead of waiting for as long as a start takes.

    Args:
        handle: Of the deployment of `EncoderReplica`.
        may_sleep: Whether there may be no replica until one is called.
        limit: Bytes of one gRPC message; None: as Ray says. Where a replica's is lower, that holds.
    """

    def __init__(self, handle: DeploymentHandle[Any], *, may_sleep: bool = False, limit: int | None = None) -> None:
        self._replicas = Replicas(handle)
        self._may_sleep = may_sleep
        self._is_asleep = False
        self._waking: asyncio.Task[None] | None = None
        self._limit = message_limit() if limit is None else limit
        self.infos: Sequence[EncoderInfo] = ()
        """What the replicas last said of their encoders, also while they are away."""
        self._room = room_in(self._limit)
        self._loads = RemoteLoads()
        self._encoding_bytes: dict[str, int] = {}
        self._waiting: set[asyncio.Timeout] = set()
        self._num_late = 0
        self.is_ready = False
        """As `Compute.is_ready`."""

    @property
    def state(self) -> GroupState:
        """How the group is."""
        if self.is_ready:
            return "ready"
        return "asleep" if self._is_asleep else "away"

    def wake(self) -> None:
        """Where the group is asleep, keep one call waiting for a replica, which has Ray start one."""
        if self._is_asleep and (self._waking is None or self._waking.done()):
            self._waking = asyncio.create_task(self._first_answer(), name="wake encoders")

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
        usual, encoding_bytes = min(USUAL_BYTES, self._room), self._encoding_bytes.get(key, 1)
        max_items = max(1, (usual if encoding_bytes <= self._room else USUAL_BYTES) // encoding_bytes)

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
        return self._loads.load(key)

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.reserve`; the replicas place a request once its inputs are there."""
        self._loads.reserve(key, context, num_inputs)

    def release(self, context: RequestContext) -> None:
        """As `Compute.release`."""
        self._loads.release(context)

    async def look(self) -> None:
        """See whether a replica is there whose encoders work."""
        try:
            found = await self._replicas.call_each("describe", timeout_s=LOOK_TIMEOUT_S)
        except CapacityError:
            found = []
        described = [each for each in found if isinstance(each, Description)]
        if described:
            self._hear(described)
        self._is_asleep = self._may_sleep and not found
        is_late = not described and any(isinstance(each, TimeoutError) for each in found)
        self._num_late = self._num_late + 1 if is_late else 0
        if any(each.is_ready for each in described):
            self.is_ready = True
        elif self._num_late in {0, MAX_LATE}:
            self._give_up()

    def _hear(self, described: Sequence[Description]) -> None:
        if not self.infos:
            self._warn_of_limit(min(each.message_limit for each in described))
        self.infos = described[0].infos
        for each in described:
            self._loads.hear(each.loads)
        self._room = room_in(min(self._limit, *(each.message_limit for each in described)))

    def _warn_of_limit(self, limit: int) -> None:
        room = room_in(min(self._limit, limit))
        if self._replicas.is_limited and room < USUAL_BYTES:
            log.warning(
                "messages to the replicas of %s are limited to %d bytes: larger ones take a slower way. "
                "Start Ray on every node with %s of at least %d.",
                *(self._replicas.name, room, LIMIT_VARIABLE, 2 * USUAL_BYTES),
            )

    async def _first_answer(self) -> None:
        try:
            await self._replicas.call("describe")
        except CapacityError:
            return
        await self.look()

    def _give_up(self) -> None:
        """Take no calls until a replica is found, and answer those that wait for one."""
        if self.is_ready:
            log.warning("no replica of %s answers", self._replicas.name)
        self.is_ready = False
        now = asyncio.get_running_loop().time()
        for waiting in self._waiting:
            waiting.reschedule(now)
        self._waiting.clear()

    async def _send(self, key: str, part: Part, context: RequestContext) -> EncodedBatch:
        room = self._room if self._replicas.is_limited else None
        by_reference = room is not None and max(part.num_bytes, self._encoding_bytes.get(key, 0)) > room
        result = await self._call(key, part, context, max_reply_bytes=None if by_reference else room)
        if isinstance(result, EncodingsTooLarge):
            self._encoding_bytes[key] = max(result.encoding_bytes, self._encoding_bytes.get(key, 0))
            result = await self._call(key, part, context, max_reply_bytes=None)
        if isinstance(result, PlumblineError):
            raise result
        self._loads.answered(key, context, len(part.inputs))
        encoded: EncodedBatch = result
        return encoded

    async def _call(self, key: str, part: Part, context: RequestContext, *, max_reply_bytes: int | None) -> Any:
        if not self.is_ready:
            self.wake()
            raise self._away()
        by_reference = max_reply_bytes is None and self._replicas.is_limited
        args = key, part.inputs, RemoteContext.of(context), max_reply_bytes
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting.add(waiting)
                try:
                    answer: Answer = await self._replicas.call("encode", *args, by_reference=by_reference)
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError as error:
            raise self._away() from error
        self._loads.hear(answer.loads)
        return answer.result

    def _away(self) -> CapacityError:
        said = "are being started" if self._is_asleep else "cannot be reached at the moment"
        return CapacityError(
            f"The encoders {said}; try again.", retry_after_s=AWAY_RETRY_AFTER_S, group=self._replicas.name
        )
