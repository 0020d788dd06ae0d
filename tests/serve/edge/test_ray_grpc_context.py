"""The gRPC edge over the context that Ray Serve hands to a replica, carried back to gRPC as Ray's proxy does it."""
# ruff: noqa: N802 - the methods of a servicer are named by the schema

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from plumbline_serve.edge import GrpcEdge
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc


class RayLike(scoring_pb2_grpc.ScoringServicer):
    """Gives methods Ray's context, then copies what they set to gRPC's own."""

    def __init__(self, edge: GrpcEdge) -> None:
        self.edge = edge

    async def Score(self, request, context):
        from ray.serve.grpc_util import RayServegRPCContext  # noqa: PLC0415 - importing Ray warns

        carried = RayServegRPCContext(context)
        reply = await self.edge.score(request, carried)  # type: ignore[arg-type]  # it takes bytes too, and says str
        carried._set_on_grpc_context(context)
        return reply


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # inside Ray
@pytest.mark.parametrize(
    ("text", "code"), [("hi", None), ("raise overloaded", "RESOURCE_EXHAUSTED"), ("crash", "INTERNAL")]
)
async def test_replies_errors_and_details_arrive(edge, text: str, code: str | None) -> None:
    server = grpc.aio.server()
    add_scoring(RayLike(GrpcEdge(edge.service, edge.settings)), server)  # type: ignore[abstract]  # in stubs alone
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    request = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(data=b"hallo"), text=text)])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = scoring_pb2_grpc.ScoringStub(channel).Score(request, metadata=[("x-request-id", "me")])
            trailing = dict(await call.trailing_metadata())
            assert (await call.code()).name == (code or "OK")
    finally:
        await server.stop(None)
    assert trailing["x-request-id"] == "me"
    if code is None:
        assert (await call).results[0].scores["sum"].value == 176.0
    else:
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        assert status.details
        assert status.message == await call.details()


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # inside Ray
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\xff\xff\xff", id="no message"),
        pytest.param(pb.ScoreRequest(items=[pb.Item(text="a~")]).SerializeToString().replace(b"~", b"\xff"), id="text"),
    ],
)
async def test_bytes_that_are_no_message_are_refused_by_the_edge(edge, sent: bytes) -> None:
    server = grpc.aio.server()
    add_scoring(RayLike(GrpcEdge(edge.service, edge.settings)), server)  # type: ignore[abstract]  # in stubs alone
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/plumbline.v1.Scoring/Score")(sent)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a message of the schema" in await call.details()
    finally:
        await server.stop(None)
