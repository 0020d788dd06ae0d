"""The gRPC edge: the methods of `plumbline.v1.Scoring` and `grpc.health.v1.Health`, whatever server hosts them."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message as ProtoMessage
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.bytes_in_flight import BytesInFlight
from plumbline_serve.edge.access import Access, num_items_of
from plumbline_serve.edge.grpc import replies as grpc_replies
from plumbline_serve.edge.grpc import requests as grpc_requests
from plumbline_serve.edge.grpc.calls import CallContext, CallInterceptor, GrpcCall, answer_each, peer_of
from plumbline_serve.edge.grpc.health import GrpcHealth
from plumbline_serve.edge.grpc.receiving import receive
from plumbline_serve.edge.grpc.stream_messages import StreamMessages
from plumbline_serve.edge.grpc.unreadable import check_readable
from plumbline_serve.edge.observe import EdgeObserver, Unobserved
from plumbline_serve.edge.parsing import CallerTimeout, with_remaining_time
from plumbline_serve.edge.problems import refuse, report_items, status
from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.messages import Reply, Request
from plumbline_serve.request_context import Caller
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Limits, Settings
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

M = TypeVar("M", bound=Request)
T = TypeVar("T", bound=Reply)
Q = TypeVar("Q", bound=ProtoMessage)
R = TypeVar("R", bound=ProtoMessage)

MAX_BATCHES_UNDER_WAY = 16  # of one stream; the sender waits with further ones
MAX_CORRELATION_CHARS = 128


@dataclass(frozen=True, slots=True)
class _Method(Generic[Q, M, T, R]):
    """A method with one request and one reply: what it is called, and what stands between the wire and the service."""

    name: str
    read: Callable[[Q, Limits], M]
    call: Callable[[Service, M, Caller], Awaitable[T]]
    write: Callable[[T, str], R]
    failed: Callable[[], R]
    """Makes what is returned beside an error."""


SCORE = _Method(
    "Score",
    grpc_requests.score_request,
    lambda service, message, caller: service.score(message, caller),
    grpc_replies.score_reply,
    pb.ScoreReply,
)
FILTER = _Method(
    "Filter",
    grpc_requests.filter_request,
    lambda service, message, caller: service.filter(message, caller),
    grpc_replies.filter_reply,
    pb.FilterReply,
)
RANK = _Method(
    "Rank",
    grpc_requests.rank_request,
    lambda service, message, caller: service.rank(message, caller),
    grpc_replies.rank_reply,
    pb.RankReply,
)
SELECT = _Method(
    "Select",
    grpc_requests.select_request,
    lambda service, message, caller: service.select(message, caller),
    grpc_replies.select_reply,
    pb.SelectReply,
)
EMBED = _Method(
    "Embed",
    grpc_requests.embed_request,
    lambda service, message, caller: service.embed(message, caller),
    grpc_replies.embed_reply,
    pb.EmbedReply,
)


class GrpcEdge:
    """Each method takes a message and its call's context, and returns: errors are set on the context.

    An `UnreadableMessage` in a message's place is refused as one. A stream may stand in the place of a unary method's
    message: its first message is the request.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        observer: EdgeObserver | None = None,
        *,
        bytes_in_flight: BytesInFlight | None = None,
        access: Access | None = None,
    ) -> None:
        """Read the file of API keys, unless it is read already.

        Args:
            service: What replies.
            settings: The limits, and who may call.
            observer: What hears of calls; default: nothing does.
            bytes_in_flight: The budget that is shared with the REST edge; default: one of its own.
            access: What lets callers in, shared likewise; default: one of its own.

        Raises:
            ConfigError: The file cannot be used.
        """
        self._service = service
        self._limits = settings.limits
        self._observer = observer or Unobserved()
        self._bytes = bytes_in_flight or BytesInFlight(settings.limits, observer)
        self._interceptor = CallInterceptor(access or Access.open(settings.auth, self._observer), self._observer)
        self._health = GrpcHealth(service, self._interceptor)

    async def score(self, request: pb.ScoreRequest, context: CallContext) -> pb.ScoreReply:
        """Score items in one batch.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(SCORE, request, context)

    async def filter(self, request: pb.FilterRequest, context: CallContext) -> pb.FilterReply:
        """Accept or reject items by thresholds, cheapest scorer first.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(FILTER, request, context)

    async def rank(self, request: pb.RankRequest, context: CallContext) -> pb.RankReply:
        """Order N images for one text, or N texts for one image.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(RANK, request, context)

    async def select(self, request: pb.SelectRequest, context: CallContext) -> pb.SelectReply:
        """Choose one of N images for a text.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(SELECT, request, context)

    async def embed(self, request: pb.EmbedRequest, context: CallContext) -> pb.EmbedReply:
        """Make unit-norm vectors of images or texts.

        Args:
            request: The message.
            context: The call's.
        """
        return await self._answer(EMBED, request, context)

    async def list_scorers(self, request: pb.ListScorersRequest, context: CallContext) -> pb.ListScorersReply:
        """List the scorers: those that are loaded, then the classifiers that are kept.

        Args:
            request: Empty.
            context: The call's.
        """
        del request

        async def answer(call: GrpcCall) -> pb.ListScorersReply:
            del call
            return grpc_replies.scorers_reply(await self._service.named_scorers())

        return await self._interceptor.run(
            f"{SCORING_SERVICE}/ListScorers", context, answer, failed=pb.ListScorersReply()
        )

    async def list_models(self, request: pb.ListModelsRequest, context: CallContext) -> pb.ListModelsReply:
        """List the loaded encoders.

        Args:
            request: Empty.
            context: The call's.
        """
        del request

        async def answer(call: GrpcCall) -> pb.ListModelsReply:
            del call
            return grpc_replies.encoders_reply(await self._service.encoders())

        return await self._interceptor.run(
            f"{SCORING_SERVICE}/ListModels", context, answer, failed=pb.ListModelsReply()
        )

    async def score_stream(
        self, requests: AsyncIterator[pb.ScoreStreamRequest], context: CallContext
    ) -> AsyncIterator[pb.ScoreStreamReply]:
        """Score a long run of batches; each is answered as soon as it is ready, or with an error of its own.

        Args:
            requests: The batches, each with a name of its own.
            context: The call's.
        """
        names: set[str] = set()

        async def answers(call: GrpcCall) -> AsyncGenerator[pb.ScoreStreamReply, None]:
            async def answer(request: pb.ScoreStreamRequest) -> pb.ScoreStreamReply:
                return await self._batch(request, call, names)

            most = min(MAX_BATCHES_UNDER_WAY, call.grant.concurrency or MAX_BATCHES_UNDER_WAY)
            with self._bytes.stream():
                is_own = OWN_CONNECTION in dict(context.invocation_metadata())
                connection = self._bytes.connections.of(peer_of(context))
                batches = StreamMessages(requests, self._bytes, self._limits, connection=connection, is_own=is_own)
                async with aclosing(answer_each(batches, answer, most=most)) as replies:
                    async for reply in replies:
                        yield reply

        async for reply in self._interceptor.stream(f"{SCORING_SERVICE}/ScoreStream", context, answers):
            yield reply

    async def check(self, request: HealthCheckRequest, context: CallContext) -> HealthCheckResponse:
        """Say whether the service takes work; needs no key.

        Args:
            request: Names the service.
            context: The call's.
        """
        return await self._health.check(request, context)

    async def watch(self, request: HealthCheckRequest, context: CallContext) -> AsyncIterator[HealthCheckResponse]:
        """Say whether the service takes work, now and at each change; needs no key.

        Args:
            request: Names the service.
            context: The call's.
        """
        async for response in self._health.watch(request, context):
            yield response

    async def _batch(self, request: pb.ScoreStreamRequest, call: GrpcCall, names: set[str]) -> pb.ScoreStreamReply:
        name = getattr(request, "correlation_id", "")
        is_ours = False
        try:
            check_readable(request)
            _check_name(name, names)
            names.add(name)
            is_ours = True
            part = replace(call, timeout=CallerTimeout(time.monotonic(), call.timeout.remaining_ms(None)))
            async with call.grant.under_way():
                reply = await self._reply(SCORE, request.request, part, num_counted=0)
            return pb.ScoreStreamReply(correlation_id=name, reply=reply)
        except Exception as error:  # noqa: BLE001 - whatever fails one batch, the others of the stream go on
            visible = refuse(error, call.request_id, self._observer)
            self._interceptor.log.batch_refused(call.request_id, visible)
            return pb.ScoreStreamReply(correlation_id=name, error=status(visible))
        finally:
            if is_ours:
                names.discard(name)

    async def _answer(self, method: "_Method[Q, M, T, R]", request: Q, context: CallContext) -> R:
        async def answer(call: GrpcCall) -> R:
            return await self._reply(method, request, call)

        name = f"{SCORING_SERVICE}/{method.name}"
        return await self._interceptor.run(name, context, answer, failed=method.failed())

    async def _reply(self, method: "_Method[Q, M, T, R]", request: Q, call: GrpcCall, *, num_counted: int = 1) -> R:
        """Make the reply to a request, of whose items so many were counted already."""
        async with self._read(request, method.read, call) as message:
            call.num_items = (call.num_items or 0) + num_items_of(message)
            await call.grant.spend_on(message, num_counted=num_counted)
            reply = await method.call(self._service, message, call.grant.caller)
            report_items(reply, call.request_id)
            return method.write(reply, call.request_id)

    @asynccontextmanager
    async def _read(self, request: Q, read: Callable[[Q, Limits], M], call: GrpcCall) -> AsyncIterator[M]:
        """The parsed request; its bytes are in flight until it is answered."""
        with self._bytes.share() as share:
            share.may_hold_pixels = True
            received: Q = await receive(request, share, call.context, max_upload_s=self._limits.max_upload_s)
            check_readable(received)
            share.settle(received.ByteSize())
            yield with_remaining_time(read(received, self._limits), call.timeout)


def _check_name(name: str, names: set[str]) -> None:
    if len(name) > MAX_CORRELATION_CHARS:
        raise _name_error(f"must have at most {MAX_CORRELATION_CHARS} characters")
    if name in names:
        raise _name_error("is that of another batch under way")


def _name_error(reason: str) -> InvalidFieldError:
    errors = [{"pointer": "/correlation_id", "detail": reason}]
    return InvalidFieldError(f"The batch's correlation_id {reason}.", errors=errors)
