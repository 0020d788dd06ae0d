"""The gRPC edge: the methods of `plumbline.v1.Scoring` and `grpc.health.v1.Health`, whatever server hosts them."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.edge.access import Access, Scope, num_items_of
from plumbline_serve.edge.caller_timeout import CallerTimeout, with_remaining_time
from plumbline_serve.edge.grpc.calls import CallContext, CallInterceptor, GrpcCall, answer_each, peer_of
from plumbline_serve.edge.grpc.health import GrpcHealth
from plumbline_serve.edge.grpc.methods import (
    EMBED,
    FILTER,
    LIST_MODELS,
    LIST_SCORERS,
    RANK,
    SCORE,
    SELECT,
    M,
    Method,
    Q,
    R,
    T,
)
from plumbline_serve.edge.grpc.receiving import receive
from plumbline_serve.edge.grpc.set_rpcs import SetRpcs
from plumbline_serve.edge.grpc.status import status
from plumbline_serve.edge.grpc.stream_messages import StreamMessages
from plumbline_serve.edge.grpc.unreadable import check_readable
from plumbline_serve.edge.observe import EdgeObserver, Unobserved
from plumbline_serve.edge.problems import refuse, report_items
from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

MAX_BATCHES_UNDER_WAY = 16  # of one stream; the sender waits with further ones
MAX_CORRELATION_CHARS = 128


class GrpcEdge(SetRpcs):
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
        super().__init__(service)
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
        return await self._list(LIST_SCORERS, context)

    async def list_models(self, request: pb.ListModelsRequest, context: CallContext) -> pb.ListModelsReply:
        """List the loaded encoders.

        Args:
            request: Empty.
            context: The call's.
        """
        del request
        return await self._list(LIST_MODELS, context)

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
                with stream.answering():
                    return await self._batch(request, call, names)

            most = min(MAX_BATCHES_UNDER_WAY, call.grant.concurrency or MAX_BATCHES_UNDER_WAY)
            with self._bytes.streams.open() as stream:
                is_own = OWN_CONNECTION in dict(context.invocation_metadata())
                connection = self._bytes.connections.of(peer_of(context))
                batches = StreamMessages(requests, self._bytes, self._limits, connection=connection, is_own=is_own)
                async with aclosing(answer_each(batches, answer, most=most, given_up=stream.given_up)) as replies:
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

    async def check_all(self, request: Any, context: CallContext) -> Any:
        """Say whether each service takes work; needs no key.

        Args:
            request: Empty.
            context: The call's.
        """
        return await self._health.check_all(request, context)

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
            call.grant = self._interceptor.granted(call)
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

    async def _run(
        self,
        name: str,
        context: CallContext,
        answer: Callable[[GrpcCall], Awaitable[R]],
        *,
        failed: R,
        scope: Scope = "score",
    ) -> R:
        return await self._interceptor.run(f"{SCORING_SERVICE}/{name}", context, answer, failed=failed, scope=scope)

    async def _answer(self, method: Method[Q, M, T, R], request: Q, context: CallContext) -> R:
        async def answer(call: GrpcCall) -> R:
            return await self._reply(method, request, call)

        return await self._run(method.name, context, answer, failed=method.failed(), scope=method.scope)

    async def _reply(self, method: Method[Q, M, T, R], request: Q, call: GrpcCall, *, num_counted: int = 1) -> R:
        """Make the reply to a request, of whose items so many were counted already."""
        async with self._received(request, call) as received:
            message = with_remaining_time(method.read(received, self._limits), call.timeout)
            call.num_items = (call.num_items or 0) + num_items_of(message)
            await call.grant.spend_on(message, num_counted=num_counted)
            reply = await method.call(self._service, message, call.grant.caller)
            report_items(reply, call.request_id)
            return method.write(reply, call.request_id)

    @asynccontextmanager
    async def _received(self, request: Q, call: GrpcCall) -> AsyncIterator[Q]:
        """The request off the wire; its bytes are in flight until it is answered."""
        with self._bytes.share() as share:
            share.may_hold_pixels = True
            received: Q = await receive(request, share, call.context, max_upload_s=self._limits.max_upload_s)
            check_readable(received)
            share.settle(received.ByteSize())
            yield received


def _check_name(name: str, names: set[str]) -> None:
    if len(name) > MAX_CORRELATION_CHARS:
        raise _name_error(f"must have at most {MAX_CORRELATION_CHARS} characters")
    if name in names:
        raise _name_error("is that of another batch under way")


def _name_error(reason: str) -> InvalidFieldError:
    errors = [{"pointer": "/correlation_id", "detail": reason}]
    return InvalidFieldError(f"The batch's correlation_id {reason}.", errors=errors)
