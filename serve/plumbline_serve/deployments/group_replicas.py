"""The replicas of one encoder group, as a gateway knows them: who is there, and of which configuration."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError, EncodersAwayError, OverloadedError, SupersededError
from plumbline_models.core.protocols import EncoderInfo, Preprocessed
from plumbline_serve.batching import GroupState
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.hop import (
    LIMIT_VARIABLE,
    USUAL_BYTES,
    Answer,
    Call,
    Description,
    OtherGeneration,
    RemoteContext,
    message_limit,
    room_in,
)
from plumbline_serve.deployments.remote_loads import RemoteLoads
from plumbline_serve.deployments.transport import AWAY_RETRY_AFTER_S, Replicas
from plumbline_serve.scheduling.request_context import RequestContext

log = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 10.0  # a batch on a busy machine may hold the interpreter for seconds
MAX_LATE = 3
"""Looks in a row that no replica answers in time before the encoders are taken for away."""
TRY_AGAIN_S, MAX_TRIES = 0.05, 100
"""Where a call meets a replica of an older configuration, which Ray is about to stop."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a group's replicas said of their encoders."""

    digest: str
    """Of the configuration that they say it of."""
    infos: Sequence[EncoderInfo]


class GroupReplicas:
    """Calls replicas of one configuration among those of a deployment; bound to one event loop.

    It is told when to look for them, and remembers what they say of themselves. While there is none, calls are refused
    at once, those that wait for one included, instead of waiting for as long as a start takes. Ray starts replicas of a
    new configuration before it stops as many old ones: once those are as many as there are of this one, calls are
    refused with `SupersededError`, and whoever wants to know is told.

    Args:
        handle: Of the deployment of `EncoderReplica`.
        generation: The configuration.
        may_sleep: Whether there may be no replica until one is called.
        limit: Bytes of one gRPC message; None: as Ray says. Where a replica's is lower, that holds.
        on_newer: Told of the configuration that replaces this one; each time that it is seen.
    """

    def __init__(
        self,
        handle: DeploymentHandle[Any],
        generation: Generation,
        *,
        group: str,
        may_sleep: bool = False,
        limit: int | None = None,
        on_newer: Callable[[Generation], None] | None = None,
    ) -> None:
        self._replicas = Replicas(handle)
        self._generation = generation
        self._group = group
        self._digest = generation.digest(group)
        self._may_sleep = may_sleep
        self._limit = message_limit() if limit is None else limit
        self._on_newer = on_newer
        self._is_asleep = False
        self._is_superseded = False
        self._waking: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Timeout] = set()
        self._num_late = 0
        self.described: Described | None = None
        """What they last said of their encoders, also while they are away."""
        self.loads = RemoteLoads()
        self.room = room_in(self._limit)
        """Bytes of inputs or encodings in one message."""
        self.is_ready = False
        """Whether one is there whose encoders work."""

    @property
    def deployment(self) -> str:
        """The name of theirs."""
        return self._replicas.name

    @property
    def infos(self) -> Sequence[EncoderInfo]:
        """What they last said of their encoders; none as long as they have not."""
        return () if self.described is None else self.described.infos

    @property
    def state(self) -> GroupState:
        """How the group is."""
        if self.is_ready:
            return "ready"
        return "asleep" if self._is_asleep else "away"

    @property
    def is_limited(self) -> bool:
        """Whether a message is bounded at all."""
        return self._replicas.is_limited

    def learn(self, described: Described) -> None:
        """Take over what another gateway knows, if it is of the same configuration."""
        if self.described is None and described.digest == self._digest:
            self.described = described

    def wake(self) -> None:
        """Where the group is asleep, keep one call waiting for a replica, which has Ray start one."""
        if self._is_asleep and (self._waking is None or self._waking.done()):
            self._waking = asyncio.create_task(self._first_answer(), name="wake encoders")

    async def look(self) -> None:
        """See which replicas are there, and whether their encoders work."""
        try:
            found = await self._replicas.call_each("describe", timeout_s=LOOK_TIMEOUT_S)
        except CapacityError:
            found = []
        everyone = [each for each in found if isinstance(each, Description)]
        described = [each for each in everyone if each.digest == self._digest]
        if described:
            self._hear(described)
        self._is_asleep = self._may_sleep and not found
        is_late = not everyone and any(isinstance(each, TimeoutError) for each in found)
        self._num_late = self._num_late + 1 if is_late else 0
        self._compare(described, everyone)
        if any(each.is_ready for each in described):
            self.is_ready = True
        elif self._is_superseded:
            self.is_ready = False  # what is under way in replicas that Ray stops is still answered
        elif self._num_late in {0, MAX_LATE}:
            self._give_up()

    async def encode(
        self, key: str, inputs: Sequence[Preprocessed], context: RequestContext, *, max_reply_bytes: int | None
    ) -> Any:
        """What a replica makes of inputs, or says instead: as `Answer.result`, but for another configuration's.

        Args:
            key: Of the encoder.
            inputs: That go in one message.
            context: The request's.
            max_reply_bytes: What the reply has room for; None: inputs and encodings go through Ray's object store.

        Raises:
            EncodersAwayError: No replica could answer.
            SupersededError: There are replicas of a newer configuration in their place.
        """
        for _ in range(MAX_TRIES):
            if self._is_superseded:
                raise SupersededError("The encoders run a newer configuration.", group=self._group)
            if not self.is_ready:
                self.wake()
                raise self._away()
            args = Call(key, self._digest), inputs, RemoteContext.of(context), max_reply_bytes
            result = await self._call(*args, by_reference=max_reply_bytes is None and self.is_limited)
            if not isinstance(result, OtherGeneration):
                return result
            if result.generation.number > self._generation.number:
                await self.look()
            await asyncio.sleep(TRY_AGAIN_S)
        raise self._away()

    async def _call(self, *args: Any, by_reference: bool) -> Any:
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting.add(waiting)
                try:
                    answer: Answer = await self._replicas.call("encode", *args, by_reference=by_reference)
                finally:
                    self._waiting.discard(waiting)
        except OverloadedError:
            raise
        except (TimeoutError, CapacityError) as error:
            raise self._away() from error
        if not isinstance(answer.result, OtherGeneration):
            self.loads.hear(answer.loads)
        return answer.result

    def _hear(self, described: Sequence[Description]) -> None:
        limit = min(self._limit, *(each.message_limit for each in described))
        if self.described is None and self.is_limited and room_in(limit) < USUAL_BYTES:
            log.warning(
                "messages to the replicas of %s are limited to %d bytes: larger ones take a slower way. "
                "Start Ray on every node with %s of at least %d.",
                *(self._group, room_in(limit), LIMIT_VARIABLE, 2 * USUAL_BYTES),
            )
        self.described = Described(self._digest, described[0].infos)
        self.room = room_in(limit)
        for each in described:
            self.loads.hear(each.loads)

    def _compare(self, described: Sequence[Description], everyone: Sequence[Description]) -> None:
        newer = [each.generation for each in everyone if each.digest != self._digest]
        newer = [each for each in newer if each.number > self._generation.number]
        self._is_superseded = bool(newer) and len(newer) >= len(described)
        if self._is_superseded and self._on_newer is not None:
            self._on_newer(max(newer, key=lambda each: each.number))

    async def _first_answer(self) -> None:
        try:
            await self._replicas.call("describe")
        except CapacityError:
            return
        await self.look()

    def _give_up(self) -> None:
        """Take no calls until a replica is found, and answer those that wait for one."""
        if self.is_ready:
            log.warning("no replica of %s answers", self._group)
        self.is_ready = False
        now = asyncio.get_running_loop().time()
        for waiting in self._waiting:
            waiting.reschedule(now)
        self._waiting.clear()

    def _away(self) -> EncodersAwayError:
        said = "are being started" if self._is_asleep else "cannot be reached at the moment"
        return EncodersAwayError(
            f"The encoders {said}; try again.", retry_after_s=AWAY_RETRY_AFTER_S, group=self._group
        )
