"""What gRPC has in another form than REST of sets: fields of requests, by name, and messages of replies."""

import math
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from plumbline_client import sets
from plumbline_client.documents import Document
from plumbline_client.requests import ForgetRequest, Request
from plumbline_wire.v1 import scoring_pb2 as pb


def _write_embeddings(message: Any, vectors: list[str]) -> None:
    message.embeddings.extend(map(b64decode, vectors))


def _write_orders(message: Any, orders: list[float | str]) -> None:
    message.orders.extend(math.inf if order == "inf" else order for order in orders)


def _write_near_duplicate(message: Any, cosine: float | None) -> None:
    if cosine is None:
        message.equal_only = True
    else:
        message.near_duplicate = cosine


def _write_labels(message: Any, labels: list[str | None]) -> None:
    message.labels.extend(pb.GroupLabel(group=label) for label in labels)


def _members(group: Document) -> Any:
    return group["members"]


def _ends(interval: Document) -> Any:
    return interval["low"], interval["high"]


def _deleted(reply: Document) -> Any:
    return reply | {"status": "deleted"}


WRITTEN: Mapping[str, Callable[[Any, Any], None]] = {
    "embeddings": _write_embeddings,
    "orders": _write_orders,
    "near_duplicate": _write_near_duplicate,
    "labels": _write_labels,
}
"""By a field's name in REST, what puts its value into a message."""
READ: Mapping[type[Message], Callable[[Document], Any]] = {
    pb.MemberGroup: _members,
    pb.Interval: _ends,
    pb.DeleteReferenceSetReply: _deleted,
}
"""By message, what makes REST's value of its fields."""
RPCS: Mapping[type[Request[Any]], tuple[str, type[Message], type[Message]]] = {
    sets.DiversityRequest: ("Diversity", pb.DiversityRequest, pb.DiversityReply),
    sets.DistanceRequest: ("Distance", pb.DistanceRequest, pb.DistanceReply),
    sets.AuditRequest: ("Audit", pb.AuditRequest, pb.AuditReply),
    sets.ReferSetRequest: ("ReferSet", pb.ReferenceSetRequest, pb.ReferenceSetReply),
    sets.ListReferenceSetsRequest: ("ListReferenceSets", pb.ListReferenceSetsRequest, pb.ListReferenceSetsReply),
    ForgetRequest: ("DeleteReferenceSet", pb.DeleteReferenceSetRequest, pb.DeleteReferenceSetReply),
}
"""Method and messages of each request."""
