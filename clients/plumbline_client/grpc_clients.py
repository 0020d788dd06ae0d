"""The gRPC clients, over one channel each."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import grpc
import grpc.aio as grpc_aio
from google.protobuf.message import Message
from pydantic import BaseModel
from typing_extensions import Unpack

from plumbline_client import addresses, grpc_wire
from plumbline_client.batches import BatchLike, BatchReply, check_batches, check_max_in_flight
from plumbline_client.calls import Call, Core
from plumbline_client.errors import PlumblineClientError
from plumbline_client.grpc_problems import call_error
from plumbline_client.options import CallOptions, ClientOptions, Profile
from plumbline_client.requests import Request
from plumbline_client.set_calls import AsyncSets, SyncSets
from plumbline_client.streams import Feed, batch_message, batch_reply
from plumbline_client.tls import Tls
from plumbline_wire.v1 import scoring_pb2 as pb

T = TypeVar("T", bound=BaseModel)
_CHANNEL: Sequence[tuple[str, Any]] = (
    ("grpc.max_send_message_length", -1),  # how large is too large is the service's to say
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # as the retries wait, or they would find the channel asleep
    ("grpc.max_reconnect_backoff_ms", 5000),
)
_IN_FLIGHT = 8
_OVER = "Deadline Exceeded"  # what gRPC itself says


class GrpcClient(SyncSets):
    """A blocking gRPC client.

    Args:
        target: Where the service answers: `localhost:9000`, or with TLS `grpcs://localhost:9000`.
        credentials: For TLS of another kind than `tls` offers.
        sleep: Waits between attempts.
        options: `api_key`, `timeout_ms`, `retry`, `headers`, `tls`.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        checked = addresses.grpc_target(target)
        super().__init__(Core(Profile(**options), checked), sleep)
        chosen = _credentials(target, credentials, self._core.profile)
        if chosen is None:
            self._channel = grpc.insecure_channel(checked, options=_CHANNEL)
        else:
            self._channel = grpc.secure_channel(checked, chosen, options=_CHANNEL)

    def __repr__(self) -> str:
        return f"GrpcClient({self._core.address!r})"

    def score_stream(
        self, batches: Iterable[BatchLike], *, max_in_flight: int = _IN_FLIGHT, **options: Unpack[CallOptions]
    ) -> Iterator[BatchReply]:
        """Score a long run of batches over one call.

        Args:
            batches: Each a `Batch` or a list of items; read on another thread, as replies make room.
            max_in_flight: Batches without a reply, at most.
            options: `timeout_ms`, here of the whole run and by default without limit; `request_id`.

        Yields:
            One reply a batch, in the order in which they come.

        Raises:
            PlumblineClientError: The call broke. It is not retried: send again what had no reply.
        """
        call = self._core.begin({"timeout_ms": None, **options})
        feed = Feed(check_batches(batches), check_max_in_flight(max_in_flight), self._core.profile)
        stream: Any = self._channel.stream_stream(  # the call's methods have no types
            grpc_wire.STREAM_PATH, pb.ScoreStreamRequest.SerializeToString, pb.ScoreStreamReply.FromString
        )(iter(feed), timeout=call.remaining_s(), metadata=tuple(call.headers.items()))
        try:
            for message in stream:
                feed.replied()
                yield batch_reply(message)
        except grpc.RpcError as error:
            raise _call_error(error, call) from error
        finally:
            feed.end()
            stream.cancel()
        if feed.failure is not None:
            raise feed.failure

    def _disconnect(self) -> None:
        self._channel.close()

    def _attempt(self, request: Request[T], call: Call) -> T:
        rpc = grpc_wire.RPCS[type(request)]
        invoke = self._channel.unary_unary(rpc.path, _serialize, rpc.reply.FromString)
        message = grpc_wire.encode(request, call)
        try:
            reply = invoke(message, timeout=call.remaining_s(), metadata=tuple(call.headers.items()))
        except grpc.RpcError as error:
            raise _call_error(error, call) from error
        return grpc_wire.decode(request, reply)


class AsyncGrpcClient(AsyncSets):
    """An asyncio gRPC client; arguments as for `GrpcClient`."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(Core(Profile(**options), addresses.grpc_target(target)), sleep)
        self._credentials = _credentials(target, credentials, self._core.profile)

    def __repr__(self) -> str:
        return f"AsyncGrpcClient({self._core.address!r})"

    @cached_property
    def _channel(self) -> grpc_aio.Channel:
        """Made by the first call, for a channel belongs to the loop on which it is made."""
        if self._credentials is None:
            return grpc_aio.insecure_channel(self._core.address, options=_CHANNEL)
        return grpc_aio.secure_channel(self._core.address, self._credentials, options=_CHANNEL)

    async def score_stream(
        self,
        batches: Iterable[BatchLike] | AsyncIterable[BatchLike],
        *,
        max_in_flight: int = _IN_FLIGHT,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[BatchReply]:
        """Score a long run of batches over one call; see `GrpcClient.score_stream`."""
        call = self._begin({"timeout_ms": None, **options})
        room = asyncio.Semaphore(check_max_in_flight(max_in_flight))
        failures: list[Exception] = []

        async def feed() -> AsyncIterator[pb.ScoreStreamRequest]:
            index = 0
            try:
                async for batch in _each(check_batches(batches)):
                    await room.acquire()
                    yield batch_message(batch, index, self._core.profile)
                    index += 1
            except Exception as error:  # noqa: BLE001 - raised to the caller below, whatever it is
                failures.append(error)

        stream = self._channel.stream_stream(
            grpc_wire.STREAM_PATH, pb.ScoreStreamRequest.SerializeToString, pb.ScoreStreamReply.FromString
        )(feed(), timeout=call.remaining_s(), metadata=tuple(call.headers.items()))
        try:
            async for message in stream:
                room.release()
                yield batch_reply(message)
        except grpc.RpcError as error:
            raise _call_error(error, call) from error
        finally:
            stream.cancel()
        if failures:
            raise failures[0]

    async def _disconnect(self) -> None:
        if "_channel" in self.__dict__:
            await self._channel.close(None)

    async def _attempt(self, request: Request[T], call: Call) -> T:
        rpc = grpc_wire.RPCS[type(request)]
        invoke = self._channel.unary_unary(rpc.path, _serialize, rpc.reply.FromString)
        message = grpc_wire.encode(request, call)
        try:
            reply = await invoke(message, timeout=call.remaining_s(), metadata=tuple(call.headers.items()))
        except grpc.RpcError as error:
            raise _call_error(error, call) from error
        return grpc_wire.decode(request, reply)


def _credentials(
    target: str, given: grpc.ChannelCredentials | None, profile: Profile
) -> grpc.ChannelCredentials | None:
    """What a channel is made with; None: no TLS."""
    if given is not None:
        return given
    if profile.tls is None and not addresses.is_grpc_over_tls(target):
        return None
    return (profile.tls or Tls()).credentials()


async def _each(batches: Iterable[BatchLike] | AsyncIterable[BatchLike]) -> AsyncIterator[BatchLike]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _call_error(error: Any, call: Call) -> PlumblineClientError:
    """Read an RpcError; Any, for the blocking ones are of a private class that is also a call."""
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and error.details() == _OVER:
        return call.overdue()
    failure = call_error(code, error.details(), error.trailing_metadata(), address=call.address)
    failure.request_id = failure.request_id or call.request_id
    return failure
