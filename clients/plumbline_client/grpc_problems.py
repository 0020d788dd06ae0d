"""Problems as gRPC carries them: `google.rpc.Status` with details, read into the REST shape."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from plumbline_client.documents import Document
from plumbline_client.errors import (
    ConnectError,
    DeadlineError,
    PlumblineClientError,
    TransportError,
    UnexpectedReplyError,
    problem_error,
)
from plumbline_client.problems import Problem
from plumbline_wire import REQUEST_ID_KEY, STATUS_DETAILS_KEY

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""HTTP statuses for errors that do not name theirs."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TOO_LARGE = "larger than max"  # what gRPC itself says of a message over the receiver's limit
_BROKEN = "RST_STREAM"  # and of a call that whoever stands between broke off, whatever the status
_NO_GRPC = ("Failed parsing HTTP/2", "SSL_ERROR_SSL")  # and of an address where something else answers
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
Metadata = Iterable[tuple[str, str | bytes]]


def problem_document(status: status_pb2.Status) -> Document:
    """Read the error of an item, or of a whole call, into a problem document."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    document: Document = {
        "status": _STATUS.get(code, 500),
        "code": f"grpc_{code.name.lower()}",
        "title": code.name.replace("_", " ").capitalize(),
        "detail": status.message,
    }
    info = _detail(status, error_details_pb2.ErrorInfo)
    if info is not None:
        document |= {key: info.metadata[key] for key in ("type", "title", "reason") if key in info.metadata}
        if info.metadata.get("estimated_wait_ms", "").isdecimal():
            document["estimated_wait_ms"] = int(info.metadata["estimated_wait_ms"])
        if info.metadata.get("status", "").isdecimal():
            document["status"] = int(info.metadata["status"])
        document["code"] = info.reason.lower()
    faults = _detail(status, error_details_pb2.BadRequest)
    if faults is not None:
        violations = faults.field_violations
        document["errors"] = [{"pointer": each.field, "detail": each.description} for each in violations]
    retry = _detail(status, error_details_pb2.RetryInfo)
    if retry is not None:
        document["retry_after_ms"] = max(0, retry.retry_delay.ToMilliseconds())
    return document


def status_error(status: status_pb2.Status, request_id: str | None = None) -> PlumblineClientError:
    """Make the error that a status with details stands for.

    Args:
        status: What the service sent.
        request_id: The call's name.
    """
    return problem_error(Problem.model_validate(problem_document(status) | {"request_id": request_id}))


def call_error(
    code: grpc.StatusCode, detail: str | None, trailing: Metadata | None, *, address: str
) -> PlumblineClientError:
    """Make the error of a failed call: the service's own where it sent details, else the transport's.

    Args:
        code: The call's status code.
        detail: The sentence beside it.
        trailing: Metadata after the reply.
        address: What the error calls the service by.
    """
    metadata = dict(trailing or ())
    named = metadata.get(REQUEST_ID_KEY)
    request_id = named if isinstance(named, str) else None
    status = _read_status(metadata.get(STATUS_DETAILS_KEY))
    if status is not None:
        return status_error(status, request_id)
    sentence = detail or f"The call failed with {code.name}."
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(sentence, request_id=request_id)
    if code is grpc.StatusCode.UNAVAILABLE or _BROKEN in sentence:
        reason = sentence.rstrip(".")
        if any(words in sentence for words in _NO_GRPC):
            untrusted = f"The certificate of {address} is of no authority that is trusted here"
            said = untrusted if _NOT_TRUSTED in sentence else f"What answers at {address} is no gRPC"
            return UnexpectedReplyError(f"{said}: {reason}.", request_id=request_id)
        what = "broke off the call" if _BROKEN in sentence else "was not reached"
        return ConnectError(f"{address} {what}: {reason}.", request_id=request_id)
    if code is grpc.StatusCode.CANCELLED:
        return TransportError(f"The call to {address} was cancelled: {sentence.rstrip('.')}.", request_id=request_id)
    plain = problem_document(status_pb2.Status(code=code.value[0], message=sentence))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in sentence:
        plain |= {"status": 413, "code": "request_too_large"}
    return problem_error(Problem.model_validate(plain | {"request_id": request_id}))


def _read_status(value: str | bytes | None) -> status_pb2.Status | None:
    if not isinstance(value, bytes):
        return None
    try:
        return status_pb2.Status.FromString(value)
    except DecodeError:
        return None


def _detail(status: status_pb2.Status, kind: Any) -> Any:
    """Find the detail of one message class; Any, for those are built at run time."""
    for packed in status.details:
        found = kind()
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(found):
            return found
    return None
