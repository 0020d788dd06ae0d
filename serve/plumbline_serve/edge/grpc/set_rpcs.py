"""The methods of `plumbline.v1.Scoring` about sets of images, and about the sets that are kept."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from google.protobuf.message import Message

from plumbline_serve.edge.access import Scope
from plumbline_serve.edge.grpc import set_replies, set_requests
from plumbline_serve.edge.grpc.calls import CallContext, GrpcCall
from plumbline_serve.edge.grpc.methods import L, Listing, M, Method, Q, R, T
from plumbline_serve.messages.sets import SetReply, SetRequest
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.scheduling.request_context import Caller
from plumbline_wire.v1 import scoring_pb2 as pb


async def _measure(service: Service, message: SetRequest, caller: Caller) -> SetReply:
    return await service.measure(message, caller)


DIVERSITY = Method(
    "Diversity",
    set_requests.diversity_request,
    _measure,
    partial(set_replies.set_reply, pb.DiversityReply),
    pb.DiversityReply,
)
DISTANCE = Method(
    "Distance",
    set_requests.distance_request,
    _measure,
    partial(set_replies.set_reply, pb.DistanceReply),
    pb.DistanceReply,
)
AUDIT = Method(
    "Audit",
    set_requests.audit_request,
    _measure,
    partial(set_replies.set_reply, pb.AuditReply),
    pb.AuditReply,
)
REFER_SET = Method(
    "ReferSet",
    set_requests.reference_set_request,
    lambda service, message, caller: service.refer_set(message, caller),
    set_replies.reference_set_reply,
    pb.ReferenceSetReply,
    scope="decide",
)
LIST_REFERENCE_SETS = Listing(
    "ListReferenceSets",
    lambda service: service.reference_sets(),
    set_replies.reference_sets_reply,
    pb.ListReferenceSetsReply,
)


class SetRpcs(ABC):
    """A part of `GrpcEdge`.

    Args:
        service: What replies.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def diversity(self, request: pb.DiversityRequest, context: CallContext) -> pb.DiversityReply:
        """Say how many different images a set holds, and which are the same.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(DIVERSITY, request, context)

    async def distance(self, request: pb.DistanceRequest, context: CallContext) -> pb.DistanceReply:
        """Say how far two sets are from each other.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(DISTANCE, request, context)

    async def audit(self, request: pb.AuditRequest, context: CallContext) -> pb.AuditReply:
        """Say how evenly a set is spread over groups, where audits are switched on.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(AUDIT, request, context)

    async def refer_set(self, request: pb.ReferenceSetRequest, context: CallContext) -> pb.ReferenceSetReply:
        """Keep a set of images, for others to be compared with.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(REFER_SET, request, context)

    async def list_reference_sets(
        self, request: pb.ListReferenceSetsRequest, context: CallContext
    ) -> pb.ListReferenceSetsReply:
        """List the sets that are kept.

        Args:
            request: Empty.
            context: The call's.
        """
        del request
        return await self._list(LIST_REFERENCE_SETS, context)

    async def delete_reference_set(
        self, request: pb.DeleteReferenceSetRequest, context: CallContext
    ) -> pb.DeleteReferenceSetReply:
        """Forget one set.

        Args:
            request: Names it.
            context: The call's.
        """

        async def answer(call: GrpcCall) -> pb.DeleteReferenceSetReply:
            async with self._received(request, call) as received:
                await self._service.delete_reference_set(received.name)
            return pb.DeleteReferenceSetReply()

        failed = pb.DeleteReferenceSetReply()
        return await self._run("DeleteReferenceSet", context, answer, failed=failed, scope="decide")

    async def _list(self, listing: Listing[L, R], context: CallContext) -> R:
        async def answer(call: GrpcCall) -> R:
            del call
            return listing.write(await listing.call(self._service))

        return await self._run(listing.name, context, answer, failed=listing.failed())

    @abstractmethod
    async def _answer(self, method: Method[Q, M, T, R], request: Q, context: CallContext) -> R: ...

    @abstractmethod
    async def _run(
        self,
        name: str,
        context: CallContext,
        answer: Callable[[GrpcCall], Awaitable[R]],
        *,
        failed: R,
        scope: Scope = "score",
    ) -> R: ...

    @abstractmethod
    def _received(self, request: Message, call: GrpcCall) -> AbstractAsyncContextManager[Any]: ...
