"""A long run of items over one gRPC stream."""

import time
from collections.abc import Sequence

import grpc

from loadtests.service.callers import Window, numbered
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc


async def ask_stream(port: int, requests: Sequence[pb.ScoreRequest]) -> Window:
    """Send batches as the service takes them.

    Raises:
        RuntimeError: A batch was not answered with scores.
    """
    latencies_s, started = list[float](), time.perf_counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        async for answer in scoring_pb2_grpc.ScoringStub(channel).ScoreStream(numbered(requests)):
            if not answer.HasField("reply"):
                raise RuntimeError(f"A batch failed: {answer.error.message}")
            latencies_s.append(time.perf_counter() - started)
    if len(latencies_s) != len(requests):
        raise RuntimeError(f"{len(latencies_s)} of {len(requests)} batches were answered.")
    return Window(len(requests), time.perf_counter() - started, latencies_s)
