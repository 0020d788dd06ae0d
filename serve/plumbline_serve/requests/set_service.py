"""What the service says of sets, and the sets that it keeps."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from plumbline_serve.messages.sets import ReferenceSetEntry, ReferenceSetRequest, SetReply, SetRequest
from plumbline_serve.requests.core import ReplyT, RequestT
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.sets import measure
from plumbline_serve.scheduling.request_context import ANYONE, Caller


class SetService(ABC):
    """A part of `CoreService`.

    Args:
        reference_sets: Those that are kept.
    """

    def __init__(self, reference_sets: ReferenceSets) -> None:
        self._reference_sets = reference_sets

    async def measure(self, request: SetRequest, caller: Caller = ANYONE) -> SetReply:
        """As `Service.measure`."""
        kept = self._reference_sets
        return await self._answered(request, lambda pipeline, request: measure(pipeline, request, kept, caller))

    async def refer_set(self, request: ReferenceSetRequest, caller: Caller = ANYONE) -> ReferenceSetEntry:
        """As `Service.refer_set`."""
        make = self._reference_sets.make
        return await self._answered(request, lambda pipeline, request: make(pipeline, request, caller))

    async def reference_sets(self) -> Sequence[ReferenceSetEntry]:
        """As `Service.reference_sets`."""
        return await self._reference_sets.entries()

    async def delete_reference_set(self, name: str) -> None:
        """As `Service.delete_reference_set`."""
        await self._reference_sets.delete(name)

    @abstractmethod
    async def _answered(self, request: RequestT, how: Callable[[Pipeline, RequestT], Awaitable[ReplyT]]) -> ReplyT: ...
