"""What Ray Serve's gRPC servers register: the service of the schema, with requests that cannot be read let through.

gRPC itself answers bytes that are no message of the right kind, text that is not UTF-8 among them: UNKNOWN, and the
name of a Python class. Let through, they reach the edge and get its answer.

Unary methods are served as ones that take a stream of messages, which is the same on the wire: gRPC would otherwise
read the whole message before anything of ours is asked, the caller's key included.

Where Ray answers a call itself, it does so as the edge would (`unreached`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from plumbline_models.core.errors import MalformedRequestError
from plumbline_serve.edge.grpc.unreached import explained
from plumbline_wire.v1.scoring_pb2_grpc import add_ScoringServicer_to_server


@dataclass(frozen=True, slots=True)
class UnreadableMessage:
    """Stands for a request whose bytes are no message of the right kind."""


def check_readable(request: Any) -> None:
    """See that a request is a message.

    Raises:
        MalformedRequestError: It is not.
    """
    if isinstance(request, UnreadableMessage):
        raise MalformedRequestError("The request is not a message of the schema, or holds text that is not UTF-8.")


def add_scoring(servicer: Any, server: Any) -> None:
    """As `add_ScoringServicer_to_server`, for a servicer that takes `UnreadableMessage` and streams of one message.

    Args:
        servicer: Its methods are named as the schema's.
        server: Of grpc.aio, or one of Ray Serve.
    """
    if hasattr(server, "service_handler_factory"):  # Ray's: each handler comes from there, those of later services too
        server.service_handler_factory = explained(server.service_handler_factory)
    lenient: Any = Lenient(server)
    add_ScoringServicer_to_server(servicer, lenient)


class Lenient:
    """The two methods of a server that a schema's services register themselves by; stubs know only one of them.

    Args:
        server: Of grpc.aio, or one of Ray Serve.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers come a second time, by their names."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Register the methods of a service so that none fails on bytes that are no message.

        Args:
            service: Its name.
            handlers: By name of the method.
        """
        lenient = {name: _lenient(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, lenient),))
        self._server.add_registered_method_handlers(service, lenient)


def _lenient(handler: Any) -> Any:
    """The handler, with requests read so that none fails, and by the edge; grpc does not type these named tuples."""
    handler = handler._replace(request_deserializer=_read_any(handler.request_deserializer))
    if handler.request_streaming or handler.response_streaming:
        return handler
    return handler._replace(request_streaming=True, unary_unary=None, stream_unary=handler.unary_unary)


def _read_any(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read_any(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return UnreadableMessage()

    return read_any
