"""The service's replies about sets as protobuf messages; as `replies`, of which these are a part."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from plumbline_serve.edge.grpc.replies import indexed, write
from plumbline_serve.messages.sets import ReferenceSetEntry, SetReply
from plumbline_wire.v1 import scoring_pb2 as pb

M = TypeVar("M", bound=Message)


def set_reply(kind: type[M], reply: SetReply, request_id: str) -> M:
    """The reply to a call of `Diversity`, `Distance` or `Audit`.

    Args:
        kind: Of the message.
        reply: What the service replied.
        request_id: Names the call.
    """
    values = {name: getattr(reply, name) for name in _OTHERWISE if hasattr(reply, name)}
    return write(kind, reply, request_id=request_id, **{name: _OTHERWISE[name](each) for name, each in values.items()})


def reference_set_reply(reply: ReferenceSetEntry, request_id: str) -> pb.ReferenceSetReply:
    """The reply to a call of `ReferSet`; see `set_reply`."""
    return write(pb.ReferenceSetReply, reply, request_id=request_id)


def reference_sets_reply(entries: Sequence[ReferenceSetEntry]) -> pb.ListReferenceSetsReply:
    """The reply to a call of `ListReferenceSets`."""
    return pb.ListReferenceSetsReply(sets=[write(pb.ReferenceSetEntry, entry) for entry in entries])


def _groups(groups: Sequence[Sequence[int]]) -> list[pb.MemberGroup]:
    return [pb.MemberGroup(members=group) for group in groups]


def _intervals(intervals: Mapping[str, Sequence[float]]) -> dict[str, pb.Interval]:
    return {name: pb.Interval(low=low, high=high) for name, (low, high) in intervals.items()}


_OTHERWISE: Mapping[str, Callable[[Any], Any]] = {
    "errors": indexed,
    "errors_a": indexed,
    "errors_b": indexed,
    "duplicates": _groups,
    "identical": _groups,
    "intervals": _intervals,
}
"""Fields that protobuf writes otherwise than the message has them."""
