"""gRPC by its own schema: whatever a message holds, the call ends as the contract says."""

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from plumbline_client import grpc_wire
from plumbline_client.grpc_problems import problem_document
from plumbline_models.core.errors import error_classes
from plumbline_wire import STATUS_DETAILS_KEY
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.fuzz.inputs import messages, requests
from tests.fuzz.served import NUM_CASES, WAIT_S, Served, cases, check_problems

RPCS: dict[str, tuple[type[Any], type[Any]]] = {
    "Score": (pb.ScoreRequest, pb.ScoreReply),
    "Rank": (pb.RankRequest, pb.RankReply),
    "Filter": (pb.FilterRequest, pb.FilterReply),
    "Select": (pb.SelectRequest, pb.SelectReply),
    "Embed": (pb.EmbedRequest, pb.EmbedReply),
    "Diversity": (pb.DiversityRequest, pb.DiversityReply),
    "Distance": (pb.DistanceRequest, pb.DistanceReply),
    "Audit": (pb.AuditRequest, pb.AuditReply),
    "ReferSet": (pb.ReferenceSetRequest, pb.ReferenceSetReply),
}
CODES = {kind.code: kind.status for kind in error_classes()}
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND,
}  # fmt: skip


def check_refusal(code: grpc.StatusCode, trailing: Any) -> None:
    """The error is one of the table, said in full."""
    problem = problem_document(status_pb2.Status.FromString(dict(trailing)[STATUS_DETAILS_KEY]))
    assert code in REFUSALS, problem
    assert CODES[problem["code"]] == problem["status"]
    check_problems(problem)


def check_reply(request: Any, reply: Any) -> None:
    """There is a result for each input, and none failed through our fault."""
    document = grpc_wire._read_message(reply)
    check_problems(document)
    match reply:
        case pb.ScoreReply() | pb.FilterReply():
            named = [item.id if item.HasField("id") else str(index) for index, item in enumerate(request.items)]
            assert [result.id for result in reply.results] == named
        case pb.SelectReply():
            failed = [each.index for each in reply.errors]
            assert [i for i, each in enumerate(reply.values) if not each.HasField("value")] == failed
            assert len(reply.values) == len(request.images)
            assert reply.HasField("index") == (len(failed) < len(reply.values))
        case pb.RankReply():
            num_candidates = max(len(request.images), len(request.texts), 1)
            placed = [place.index for place in reply.ranking] + [each.index for each in reply.errors]
            most = request.top_k if request.HasField("top_k") else num_candidates
            assert len(placed) == len(set(placed))
            assert len(reply.ranking) == min(num_candidates - len(reply.errors), most)
        case pb.EmbedReply():
            assert len(reply.vectors) == max(len(request.images), len(request.texts))
            vectors = [vector.float32_le for vector in reply.vectors if vector.WhichOneof("result") == "float32_le"]
            assert {len(vector) for vector in vectors} <= {4 * reply.dim}
        case pb.DiversityReply():
            num = len(request.images) + len(request.embeddings) + len(request.hashes)
            assert reply.n + len({each.index for each in reply.errors}) == num
            assert all(0.999 <= value <= reply.n + 0.001 for value in reply.vendi.values())
        case pb.DistanceReply():
            assert reply.frechet >= 0
            assert reply.n_a >= 2
        case pb.AuditReply():
            assert reply.n + reply.num_unknown == len(request.labels or request.images or request.embeddings)
            assert reply.caution
        case pb.ReferenceSetReply():
            assert (reply.name, reply.n) == (request.name, len(request.embeddings or request.images))


@pytest.mark.parametrize("name", RPCS)
def test_a_call_with_any_message_is_answered_or_refused(served: Served, name: str) -> None:
    @cases(0.4)
    @given(request=requests(RPCS[name][0]))
    def each(request: Any) -> None:
        reply = served.rpc(name, request)
        is_refused = isinstance(reply, grpc.RpcError)
        NUM_CASES[f"gRPC by its schema {'refused' if is_refused else 'answered'}"] += 1
        if is_refused:
            check_refusal(reply.code(), reply.trailing_metadata())
        else:
            check_reply(request, reply)

    each()


@st.composite
def nearly_messages(draw: st.DrawFn, kind: type[Message]) -> bytes:
    """Bytes of a message, some of them changed, or any bytes."""
    data = bytearray(draw(requests(kind)).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


@pytest.mark.parametrize("name", RPCS)
def test_bytes_that_are_hardly_a_message_are_answered_or_refused(served: Served, name: str) -> None:
    request_kind, reply_kind = RPCS[name]
    call = served.channel.unary_unary(f"/plumbline.v1.Scoring/{name}")

    @cases(0.15)
    @given(data=nearly_messages(request_kind))
    def each(data: bytes) -> None:
        NUM_CASES["gRPC, broken messages"] += 1
        try:
            reply = call(data, timeout=WAIT_S)
        except grpc.RpcError as error:
            check_refusal(error.code(), error.trailing_metadata())
        else:
            check_reply(request_kind.FromString(data), reply_kind.FromString(reply))

    each()


@cases(0.1)
@given(batches=st.lists(messages(pb.ScoreStreamRequest), max_size=5))
def test_each_batch_of_a_stream_is_answered_or_refused(served: Served, batches: list[Any]) -> None:
    NUM_CASES["gRPC streams"] += 1
    replies = list(served.stub.ScoreStream(iter(batches), timeout=WAIT_S))
    assert sorted(each.correlation_id for each in replies) == sorted(each.correlation_id for each in batches)
    for reply in replies:
        if reply.WhichOneof("result") == "error":
            problem = problem_document(reply.error)
            assert CODES[problem["code"]] == problem["status"]
            check_problems(problem)
        else:
            check_problems(grpc_wire._read_message(reply.reply))
