"""Every encoder, each in its group: calls go to the group that holds the encoder."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from plumbline_models.core.errors import CapacityError, EncodersAwayError, EngineError
from plumbline_models.core.protocols import EncoderInfo, Preprocessed
from plumbline_serve.batching import EncodedBatch, EncoderLoad, GroupState
from plumbline_serve.deployments.group_replicas import Described
from plumbline_serve.deployments.remote_compute import RemoteCompute
from plumbline_serve.scheduling.request_context import RequestContext

log = logging.getLogger(__name__)
LOOK_PERIOD_S = 2.0

Descriptions: TypeAlias = Mapping[str, Described]
"""What the replicas of each group said last of their encoders, by the name of the group's deployment."""


class GroupedCompute:
    """Sends each encoder's inputs to its group; a group that is away harms no other. Bound to one event loop.

    Args:
        groups: By name.
        keys: Of each group's encoders.
    """

    def __init__(self, groups: Mapping[str, RemoteCompute], keys: Mapping[str, Sequence[str]]) -> None:
        self._groups = groups
        self._by_key = {key: groups[name] for name, held in keys.items() for key in held}
        self._watching: asyncio.Task[None] | None = None

    async def start(self, ask_others: Callable[[], Awaitable[Sequence[Descriptions]]]) -> None:
        """Wait until the groups are known, and look for them from then on.

        While other gateways answer callers, it waits for all that they do not know either. Where there are none, it
        waits for the first: scorers whose group is there should not wait for one that may be away for long.

        Args:
            ask_others: What the gateways that answer callers know.
        """
        while True:
            await self.look()
            others = await ask_others() if len(self.descriptions) < len(self._groups) else ()
            for group, known in itertools.product(self._groups.values(), others):
                if (described := known.get(group.replicas.deployment)) is not None:
                    group.replicas.learn(described)
            num_known = len(self.descriptions)
            if num_known == len(self._groups) or (num_known and not others):
                break
            for group in self._groups.values():
                group.replicas.wake()
            await asyncio.sleep(LOOK_PERIOD_S)
        self._watching = asyncio.create_task(self._watch(), name="watch encoder groups")

    async def encode(self, key: str, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """As `Compute.encode`.

        Args:
            key: As there.
            inputs: As there.
            context: As there.

        Raises:
            EncodersAwayError: The encoder's group is away, and others may be there.
            CapacityError: The only group is away.
        """
        group = self._by_key.get(key)
        if group is None:
            raise EngineError("The service has no such encoder.", encoder=key)
        try:
            return await group.encode(key, inputs, context)
        except EncodersAwayError as error:
            if len(self._groups) > 1:
                raise
            raise CapacityError(error.detail, **error.facts) from error  # the whole request has to be made again

    def load(self, key: str) -> EncoderLoad | None:
        """As `Compute.load`."""
        group = self._by_key.get(key)
        return None if group is None else group.load(key)

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.reserve`; the replicas place a request once its inputs are there."""
        if group := self._by_key.get(key):
            group.reserve(key, context, num_inputs)

    def release(self, context: RequestContext) -> None:
        """As `Compute.release`."""
        for group in self._groups.values():
            group.release(context)

    def expect(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.expect`; not passed on, since a hop costs more than it would gain."""

    @property
    def is_ready(self) -> bool:
        """As `Compute.is_ready`."""
        return "away" not in self.groups.values()

    @property
    def groups(self) -> dict[str, GroupState]:
        """As `Compute.groups`."""
        return {name: group.replicas.state for name, group in self._groups.items()}

    @property
    def descriptions(self) -> Descriptions:
        """Of each group that has been described."""
        known = {group.replicas.deployment: group.replicas.described for group in self._groups.values()}
        return {name: described for name, described in known.items() if described is not None}

    async def infos(self) -> Sequence[EncoderInfo]:
        """As `Compute.infos`; of each group what it last said, also while it is away."""
        return [info for group in self._groups.values() for info in group.replicas.infos]

    async def close(self) -> None:
        """Look for the groups no longer."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def look(self) -> None:
        """See which groups are there."""
        await asyncio.gather(*(group.replicas.look() for group in self._groups.values()))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_PERIOD_S)
            try:
                await self.look()
            except Exception:
                log.exception("looking for the encoder groups failed")
