"""Errors as gRPC's statuses, `google.rpc.Status`, with the facts of the problem that REST replies with."""

import math

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from plumbline_models.core.errors import CapacityError, PlumblineError
from plumbline_serve.edge.problems import detail_of, faults_of, problem_type, shown_facts
from plumbline_wire import ERROR_DOMAIN

MAX_DETAIL_BYTES = 1024  # of a gRPC status message, which travels twice in the 8 KiB that clients take as metadata
_GRPC_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The canonical code of each HTTP status; those not listed say that the request is wrong."""


def grpc_code(error: PlumblineError) -> grpc.StatusCode:
    """The canonical gRPC code."""
    return _GRPC_CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)


def status(error: PlumblineError) -> Status:
    """The same facts as `problem`, as `google.rpc.Status` with details."""
    number, _ = grpc_code(error).value
    message = Status(code=number, message=_cut(detail_of(error)))
    metadata = {"status": str(error.status), "title": error.title, "type": problem_type(error)}
    metadata |= {name: str(value) for name, value in shown_facts(error).items()}
    message.details.add().Pack(ErrorInfo(reason=error.code.upper(), domain=ERROR_DOMAIN, metadata=metadata))
    if faults := faults_of(error):
        violations = [
            BadRequest.FieldViolation(field=fault["pointer"], description=fault["detail"]) for fault in faults
        ]
        message.details.add().Pack(BadRequest(field_violations=violations))
    if isinstance(error, CapacityError):
        delay = Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1000))
        message.details.add().Pack(RetryInfo(retry_delay=delay))
    return message


def _cut(sentence: str) -> str:
    return sentence.encode()[:MAX_DETAIL_BYTES].decode(errors="ignore")
