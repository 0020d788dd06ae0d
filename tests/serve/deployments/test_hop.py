"""The hop to an encoder replica: messages within the limit, errors of ours, the encodings of one process."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np
import pytest
from ray import cloudpickle
from ray import serve as ray_serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

from plumbline_models.core.errors import CapacityError, EngineError, OverloadedError
from plumbline_models.core.protocols import EncoderKind
from plumbline_serve.batching import BatchLimits, LocalCompute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.deployments.encoder_replica import EncoderReplica
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.group_replicas import GroupReplicas
from plumbline_serve.deployments.hop import RemoteContext, cut, num_bytes, room_in
from plumbline_serve.deployments.remote_compute import RemoteCompute
from plumbline_serve.deployments.transport import translated
from plumbline_serve.scheduling.request_context import Caller, RequestContext
from plumbline_serve.settings import Settings
from tests.results import succeeded

NEVER = RequestContext()
FAKE = Settings.model_validate({"backend": "fake", "scorers": {"clipscore": {}}, "replicas": {"layout": "split"}})
GENERATION = Generation(1, FAKE)


@dataclass
class Pair:
    """As an encoder of pairs prepares them: a large part, which many may share, and a small one."""

    image: np.ndarray
    ids: np.ndarray


def pairs(images: list[np.ndarray], num_texts: int) -> list[Pair]:
    return [Pair(image, np.arange(8) + i) for image in images for i in range(num_texts)]


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([np.zeros((300, 400, 3), np.uint8) for _ in range(3)], id="images"),
        pytest.param([np.zeros((300, 400, 3), np.uint8)[:, ::2]], id="not contiguous"),
        pytest.param(pairs([np.zeros((64, 64), np.float32)] * 2, 20), id="pairs of one image"),
        pytest.param([np.arange(n) for n in range(50)], id="texts"),
        pytest.param([EngineError("No.", key="a"), np.float32(1.0), None], id="encodings and errors"),
    ],
)
def test_sizes_are_those_of_the_message(objects):
    assert num_bytes(objects) == pytest.approx(len(cloudpickle.dumps(objects)), rel=0.1, abs=200)


def test_inputs_are_cut_by_bytes_in_their_order_and_what_is_larger_goes_alone():
    images = [np.full(size, i, np.uint8) for i, size in enumerate((400, 400, 5000, 400, 400, 400))]
    parts = list(cut(images, max_bytes=1000, max_items=100))
    assert [[int(each[0]) for each in part.inputs] for part in parts] == [[0, 1], [2], [3, 4], [5]]
    assert all(part.num_bytes <= 1000 or len(part.inputs) == 1 for part in parts)


def test_inputs_are_cut_by_number():
    assert [len(part.inputs) for part in cut(range(10), max_bytes=10**6, max_items=4)] == [4, 4, 2]


def test_what_inputs_share_is_counted_once_a_message():
    images = [np.full((128, 128), i, np.float32) for i in range(2)]  # 64 KiB each
    parts = list(cut(pairs(images, 100), max_bytes=100_000, max_items=1000))
    assert sum(len(part.inputs) for part in parts) == 200
    assert len(parts) == 2
    assert all(num_bytes(part.inputs) == part.num_bytes <= 100_000 for part in parts)


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="from the transport")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED), CapacityError),
        (rpc_error(grpc.StatusCode.CANCELLED), CapacityError),
        (rpc_error(grpc.StatusCode.INTERNAL), CapacityError),
        (RuntimeError("Unexpected error (StatusCode.RESOURCE_EXHAUSTED): message larger than max."), CapacityError),
        (ActorDiedError(), CapacityError),
        (ActorUnavailableError("gone", b"0" * 16), CapacityError),
        (RayTaskError("encode", "", ActorDiedError()), CapacityError),
        (DeploymentUnavailableError(DeploymentID("EncoderReplica", "plumbline")), CapacityError),
        (RequestCancelledError(), CapacityError),
        (asyncio.CancelledError(), CapacityError),
        (BackPressureError(1, 1), OverloadedError),
        (RayTaskError("encode", "", TypeError("ours")), RayTaskError),
        (EngineError("ours"), EngineError),
    ],
    ids=repr,
)
async def test_every_error_of_the_way_is_one_of_ours_and_a_fault_of_the_program_stays_one(error, kind):
    with pytest.raises(kind), translated("EncoderReplica"):
        raise error


async def test_a_caller_that_leaves_is_no_error_of_the_way():
    async def wait() -> None:
        with translated("EncoderReplica"):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.fixture
def inputs() -> dict[str, list[object]]:
    """A few images of 30 kB and many texts, as the encoders prepare them."""
    rng = np.random.default_rng(0)
    raw: dict[EncoderKind, Iterable[Any]] = {
        "image": rng.integers(0, 256, (8, 60, 80, 3), dtype=np.uint8),
        "text": [f"cup {i}" for i in range(40)],
    }
    encoders = {encoder.kind: encoder for encoder in encoders_of(make_scorers(FAKE).values())}
    return {encoders[kind].key: [encoders[kind].preprocess(each) for each in many] for kind, many in raw.items()}


class Observed(EncoderReplica):
    """Writes down how many inputs came with each call, and goes away when it is told to."""

    calls: list[int] = []  # noqa: RUF012 - all of the class, since Ray makes the instance
    is_away = False
    was_asked = threading.Event()
    answers = threading.Event()

    async def encode(self, call, inputs, claims, max_reply_bytes):
        self.calls.append(len(inputs))
        self.was_asked.set()
        await asyncio.to_thread(self.answers.wait)
        return await super().encode(call, inputs, claims, max_reply_bytes)

    async def describe(self):
        if Observed.is_away:
            raise ActorUnavailableError("gone", b"0" * 16)
        return await super().describe()


@pytest.fixture
def handle():
    """A replica in this process: Ray's own way of running applications without a cluster."""
    Observed.calls.clear()
    Observed.was_asked.clear()
    Observed.answers.set()
    handle = ray_serve.run(
        cast("Any", ray_serve.deployment(Observed)).bind(GENERATION, "encoders"), _local_testing_mode=True
    )
    return handle.options(_by_reference=False)  # as with gRPC between replicas


async def reached(handle, room: int) -> RemoteCompute:
    replicas = GroupReplicas(handle, GENERATION, group="encoders", limit=2**16 + room)
    assert room_in(2**16 + room) == room
    await replicas.look()
    assert replicas.state == "ready"
    return RemoteCompute(replicas)


@pytest.mark.parametrize(
    ("room", "num_calls"),
    [
        pytest.param(2**30, {"image": 1, "text": 1}, id="all in one"),
        pytest.param(100_000, {"image": 3, "text": 1}, id="some images"),
        pytest.param(30_000, {"image": 8, "text": 1}, id="less than one image"),
    ],
)
async def test_calls_that_are_cut_give_the_rows_of_one_process(handle, inputs, observer, room, num_calls):
    remote = await reached(handle, room)
    local = LocalCompute(encoders_of(make_scorers(FAKE).values()), BatchLimits(64, 0.0), observer)
    await local.start()
    for key, preprocessed in inputs.items():
        Observed.calls.clear()
        found, expected = [(await compute.encode(key, preprocessed, NEVER)).encodings for compute in (remote, local)]
        assert len(found) == len(preprocessed)
        assert all(map(np.array_equal, succeeded(found), succeeded(expected)))
        assert len(Observed.calls) == num_calls[key.rpartition("/")[2]], Observed.calls
    assert [info.key for info in remote.replicas.infos] == [info.key for info in await local.infos()]
    await local.close()


@pytest.mark.parametrize("claim", [{"is_deterministic": True}, {"priority": "batch"}, {"caller": Caller("a", 2.0)}])
def test_what_a_request_claims_crosses(claim):
    sent = RequestContext(**claim)
    crossed = RemoteContext.of(sent).context()
    assert (crossed.is_deterministic, crossed.priority, crossed.caller) == (
        sent.is_deterministic,
        sent.priority,
        sent.caller,
    )


async def test_rows_for_which_a_reply_has_no_room_come_another_way_and_are_known_from_then_on(handle, inputs):
    remote = await reached(handle, 3000)
    key, preprocessed = next((key, texts) for key, texts in inputs.items() if key.endswith("text"))
    for expected in ([40, 40], [5] * 8):
        Observed.calls.clear()
        found = (await remote.encode(key, preprocessed, NEVER)).encodings
        assert len(found) == len(preprocessed)
        assert Observed.calls == expected


async def test_while_the_encoders_are_away_calls_are_refused_at_once_and_those_that_wait_too(handle, inputs):
    remote = await reached(handle, 10**6)
    key, preprocessed = next(iter(inputs.items()))
    Observed.answers.clear()
    waiting = asyncio.create_task(remote.encode(key, preprocessed, NEVER))
    try:
        assert await asyncio.to_thread(Observed.was_asked.wait, 60)
        Observed.is_away = True
        await remote.replicas.look()
        assert not remote.replicas.is_ready
        with pytest.raises(CapacityError):
            await waiting
        with pytest.raises(CapacityError):
            await remote.encode(key, preprocessed, NEVER)
        assert remote.replicas.infos  # what they said last
    finally:
        Observed.is_away = False
        Observed.answers.set()
    await remote.replicas.look()
    assert len((await remote.encode(key, preprocessed, NEVER)).encodings) == len(preprocessed)
