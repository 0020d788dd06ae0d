"""What callers pass: any iterable, images as they have them, and every wrong argument refused before it is sent."""

import asyncio
import io
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest

from plumbline_client import (
    AsyncClient,
    AsyncGrpcClient,
    Batch,
    Client,
    Combination,
    GrpcClient,
    Image,
    Item,
    Question,
    RetryPolicy,
    Term,
    Threshold,
    UsageError,
)
from plumbline_wire.v1 import scoring_pb2 as pb

PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
PNG = b"\x89PNG"
BUSY = {"status": 503, "code": "draining"}
ONCE = RetryPolicy(max_attempts=1)
BOUND = {"weights": "00", "conventions": {}}
CALIBRATION = {
    "name": "launch", "scorer": "clipscore", "alpha": 0.05, "direction": "keep_good", "threshold": None, "k": 2,
    "num_used": 1, "coverage": None, "coverage_p05": None, "bound_to": BOUND, "created": "2026-11-28T00:00:00.000Z",
}  # fmt: skip
REFERENCE = {"n": 2, "edges": [0.5], "counts": [1, 1], "images": []}


@pytest.fixture
def client(rest_server, slept) -> Iterator[Client]:
    with Client(rest_server.url, sleep=slept.append) as client:
        yield client


def images_sent(arrived: Any) -> list[bytes]:
    return list(arrived.parts.values())


@pytest.mark.parametrize("make", [iter, tuple, lambda items: (item for item in items)])
def test_items_come_in_any_iterable_and_are_sent_again_with_a_retry(rest_server, client, make) -> None:
    rest_server.answer(BUSY, 503)
    rest_server.answer({"results": []})
    client.score(make([Item(Image.data(PNG), "a"), Item(text="b")]), scorers=iter(["clipscore"]))
    assert len(rest_server.arrived) == 2
    for arrived in rest_server.arrived:
        assert [item.get("text") for item in arrived.document["items"]] == ["a", "b"]
        assert arrived.document["scorers"] == ["clipscore"]
        assert images_sent(arrived) == [PNG]


def test_every_method_takes_any_iterable(rest_server, client) -> None:
    rest_server.answer({"results": [], "ranking": [], "dim": 0, "vectors": []})
    client.filter(iter([Item(text="a")]), iter([Threshold("clipscore", min=0)]))
    client.rank("a", iter([Image.data(PNG)]))
    client.rank(Image.data(PNG), iter("ab"))
    client.embed(iter(["a"]))
    client.embed(iter([Image.data(PNG)]))
    judged, by_text, by_image, texts, images = (arrived.document for arrived in rest_server.arrived)
    assert len(judged["items"]) == len(judged["policy"]["all"]) == len(by_text["images"]) == 1
    assert by_image["texts"] == ["a", "b"]
    assert texts["texts"] == ["a"]
    assert len(images["images"]) == 1


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(np.asarray, id="arrays"),
        pytest.param(lambda values: list(np.asarray(values)), id="numbers of numpy"),
        pytest.param(tuple, id="tuples"),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_and_labels_come_as_numpy_has_them(rest_server, client, make, kind) -> None:
    rest_server.answer(CALIBRATION | REFERENCE)
    scores, labels = make([kind(0.25), kind(0.5)]), make([True, False])
    groups = make(["a", "b"])
    client.calibrate("launch", "clipscore", scores, labels, alpha=0.05, direction="keep_good", groups=groups)
    client.refer("clipscore", scores)
    calibrated, referred = (arrived.document for arrived in rest_server.arrived)
    assert [calibrated[name] for name in ("scores", "labels", "groups")] == [[0.25, 0.5], [True, False], ["a", "b"]]
    assert calibrated["labels"][0] is True
    assert referred["values"] == [0.25, 0.5]


def test_a_batch_of_a_stream_takes_any_iterable(grpc_server) -> None:
    async def stream(requests: Any, context: Any) -> Any:
        async for request in requests:
            grpc_server.arrived.append(request.request)
            yield pb.ScoreStreamReply(correlation_id=request.correlation_id, reply=pb.ScoreReply())

    grpc_server.stream = stream
    with GrpcClient(grpc_server.target) as client:
        batches: list[Any] = [Batch((Item(text="a"),), iter(["q"])), [Item(text="b")], iter([(None, "c")])]
        replies = list(client.score_stream(batches))
    assert [reply.correlation_id for reply in replies] == ["0", "1", "2"]
    sent = [(request.items[0].text, list(request.scorers)) for request in grpc_server.arrived]
    assert sent == [("a", ["q"]), ("b", []), ("c", [])]


def png_of(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path, id="path"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: bytearray(path.read_bytes()), id="bytearray"),
        pytest.param(lambda path: memoryview(path.read_bytes()), id="memoryview"),
        pytest.param(PIL.Image.open, id="Pillow"),
        pytest.param(lambda _: PIXELS, id="numpy"),
        pytest.param(lambda _: memoryview(PIXELS.data), id="memoryview of pixels"),
    ],
)
def test_an_image_is_taken_as_the_caller_has_it(rest_server, client, tmp_path, make) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png_of(PIXELS))
    image = make(path)
    rest_server.answer({"results": [], "ranking": [], "dim": 0, "vectors": []})
    client.score([Item(image, "a"), (image, "a"), image])
    client.rank("a", [image])
    client.rank(image, ["a"])
    client.embed([image])
    for arrived, num_images in zip(rest_server.arrived, [3, 1, 1, 1], strict=True):
        assert len(arrived.parts) == num_images
        assert {content in {path.read_bytes(), PIXELS.tobytes()} for content in images_sent(arrived)} == {True}
    assert [item.get("text") for item in rest_server.arrived[0].document["items"]] == ["a", "a", None]


def test_a_buffer_that_is_filled_anew_for_each_item_is_read_each_time(rest_server, client) -> None:
    rest_server.answer({"results": []})
    frame = np.zeros((1, 1, 3), np.uint8)

    def film() -> Iterator[Any]:
        for number in range(3):
            frame[:] = number
            yield frame, "a"

    client.score(film())
    assert images_sent(rest_server.arrived[0]) == [b"\0\0\0", b"\1\1\1", b"\2\2\2"]


def test_a_file_that_is_missing_is_an_os_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        Item(tmp_path / "none.png")


ITEM, IMAGE = Item(text="a"), Image.data(PNG)


@pytest.mark.parametrize("name", ["references", "phrases"])
def test_captions_beside_the_text_come_in_a_list_of_str(name: str) -> None:
    make: Any = Item
    assert getattr(make(**{name: iter("ab")}), name) == ("a", "b")
    for wrong, why in [("a fox", "come in a list"), (None, "come in a list"), ([5], "are str")]:
        with pytest.raises(UsageError, match=why):
            make(**{name: wrong})


def test_questions_are_texts_or_say_more() -> None:
    make: Any = Item
    red = Question("Is it red?", "no", depends_on=[0])
    assert make(questions=iter(["Is there a fox?", red])).questions == (Question("Is there a fox?"), red)
    for wrong, why in [("Is it red?", "come in a list"), ([5], "are Question or str")]:
        with pytest.raises(UsageError, match=why):
            make(questions=wrong)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mean", [Term("a")]), "sum or harmonic"),
        (("sum", Term("a")), "come in a list"),
        (("sum", [{"scorer": "a"}]), "made of Term"),
    ],
)
def test_a_combination_is_a_method_and_terms(arguments: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Combination(*arguments)


@pytest.mark.parametrize("kind", [Client, AsyncClient, GrpcClient, AsyncGrpcClient])
@pytest.mark.parametrize(
    ("method", "arguments", "options", "why"),
    [
        pytest.param("score", ["a"], {}, "come in a list", id="a str as items"),
        pytest.param("score", [ITEM], {}, "come in a list", id="an item as items"),
        pytest.param("score", [None], {}, "come in a list", id="None as items"),
        pytest.param("score", [{"text": "a"}], {}, "come in a list", id="a mapping as items"),
        pytest.param("score", [["a.png"]], {}, "no item", id="a str as item"),
        pytest.param("score", [[("a.png", "a")]], {}, "no image", id="a str as image"),
        pytest.param("score", [[{"text": "a"}]], {}, "no image", id="a mapping as item"),
        pytest.param("score", [[(IMAGE, "a", "b")]], {}, "an image and its text", id="three in a tuple"),
        pytest.param("score", [[(IMAGE, 5)]], {}, "must be a str", id="a number as text"),
        pytest.param("score", [[ITEM]], {"scorers": "clipscore"}, "come in a list", id="a str as scorers"),
        pytest.param("score", [[ITEM]], {"scorers": [5]}, "ids", id="a number as scorer"),
        pytest.param("score", [[ITEM]], {"timeout": 5}, "no option timeout", id="an option that is none"),
        pytest.param("score", [[ITEM]], {"timeout_ms": 0}, "greater than 0", id="no time"),
        pytest.param("score", [[ITEM]], {"timeout_ms": -1}, "greater than 0", id="less than no time"),
        pytest.param("score", [[ITEM]], {"timeout_ms": float("nan")}, "greater than 0", id="NaN"),
        pytest.param("score", [[ITEM]], {"timeout_ms": "5"}, "greater than 0", id="a str as time"),
        pytest.param("score", [[ITEM]], {"priority": "urgent"}, "interactive, normal, batch", id="no priority"),
        pytest.param("score", [[ITEM]], {"deterministic": "yes"}, "True or False", id="a str for yes"),
        pytest.param("score", [[ITEM]], {"request_id": 5}, "printable ASCII", id="a number as id"),
        pytest.param("score", [[ITEM]], {"combine": [Term("a")]}, "have names", id="a list of combinations"),
        pytest.param("score", [[ITEM]], {"combine": {"a": Term("a")}}, "have names", id="a term as combination"),
        pytest.param("filter", [[ITEM], Threshold("q", min=0)], {}, "come in a list", id="a threshold as policy"),
        pytest.param("filter", [[ITEM], [{"scorer": "q"}]], {}, "Threshold", id="a mapping as threshold"),
        pytest.param("rank", ["a", ["b"]], {}, "no image", id="texts for a text"),
        pytest.param("rank", [IMAGE, [IMAGE]], {}, "texts for an image are str", id="images for an image"),
        pytest.param("rank", [5, ["a"]], {}, "no image", id="a number as query"),
        pytest.param("rank", ["a", None], {}, "come in a list", id="None as candidates"),
        pytest.param("embed", ["abc"], {}, "come in a list", id="a str as inputs"),
        pytest.param("embed", [PNG], {}, "come in a list", id="bytes as inputs"),
        pytest.param("embed", [[IMAGE, "a"]], {}, "both", id="images and texts"),
        pytest.param("embed", [[5]], {}, "no image", id="a number as input"),
    ],
)
async def test_a_wrong_argument_is_refused_before_it_is_sent(kind, method, arguments, options, why) -> None:
    client = kind("localhost:1", retry=ONCE)
    with pytest.raises(UsageError, match=why):
        await _call(client, method, *arguments, **options)
    await _call(client, "close")


@pytest.mark.parametrize("kind", [Client, GrpcClient])
@pytest.mark.parametrize(
    "options",
    [
        {"timeout_ms": 0},
        {"timeout_ms": float("nan")},
        {"api_key": 5},
        {"headers": {"a b": "c"}},
        {"headers": {"a\n": "c"}},
        {"headers": {"a": 5}},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_when_the_client_is_made(kind: type, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        kind("localhost:1", **options)


@pytest.mark.parametrize("numbers", [{"max_attempts": 0}, {"base_delay_s": -1.0}, {"refill": float("nan")}], ids=str)
def test_a_policy_of_retries_that_cannot_be_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**numbers)


@pytest.mark.parametrize("timeout_ms", [float("inf"), 1e30, None])
async def test_no_limit_is_none_over_any_wire(rest_server, grpc_server, timeout_ms: float | None) -> None:
    rest_server.answer({"results": []})
    grpc_server.answer(pb.ScoreReply())
    for kind, address in [(Client, rest_server.url), (AsyncClient, rest_server.url), (GrpcClient, grpc_server.target)]:
        client = kind(address)
        await _call(client, "score", [ITEM], timeout_ms=timeout_ms)
        await _call(client, "close")
    assert ["timeout_ms" in arrived.document for arrived in rest_server.arrived] == [False, False]
    assert [arrived.HasField("timeout_ms") for arrived in grpc_server.arrived] == [False]


@pytest.mark.parametrize("kind", [Client, AsyncClient, GrpcClient, AsyncGrpcClient])
async def test_a_closed_client_says_so(kind: type, nobody: str) -> None:
    client = kind(nobody, retry=ONCE)
    for _ in range(2):
        await _call(client, "close")
    for method, arguments in [("score", [[ITEM]]), ("ready", [])]:
        with pytest.raises(UsageError, match="closed"):
            await _call(client, method, *arguments)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prompt", "no prompt: did you mean text"),
        ("imgae", "did you mean image"),
        ("zzz", "no zzz; it has image, text,"),
    ],
)
def test_a_field_of_another_name_is_asked_about(name: str, said: str) -> None:
    wrong: dict[str, Any] = {name: "a fox"}
    with pytest.raises(UsageError, match=said):
        Item(Image.data(PNG), **wrong)


@pytest.mark.parametrize("batches", [None, 5])
def test_a_stream_of_nothing_is_refused(nobody: str, batches: Any) -> None:
    with GrpcClient(nobody) as client, pytest.raises(UsageError, match="come in a list"):
        list(client.score_stream(batches))


def test_a_batch_that_is_none_is_raised_to_the_caller(grpc_server) -> None:
    async def stream(requests: Any, context: Any) -> Any:
        async for _ in requests:
            yield pb.ScoreStreamReply()

    grpc_server.stream = stream
    with GrpcClient(grpc_server.target) as client, pytest.raises(UsageError, match="lists of items"):
        list(client.score_stream([cast("Any", ITEM)]))


@pytest.mark.parametrize("kind", [AsyncClient, AsyncGrpcClient])
def test_an_asyncio_client_may_be_made_before_its_loop_but_serves_one(kind: type, nobody: str) -> None:
    client = kind(nobody, retry=ONCE)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(client.ready()) is False
        with pytest.raises(UsageError, match="event loop"):
            second.run(client.ready())
        first.run(client.close())


async def _call(client: Any, method: str, *arguments: Any, **options: Any) -> Any:
    function = getattr(client, method)
    if isinstance(client, AsyncClient | AsyncGrpcClient):
        return await function(*arguments, **options)
    return await asyncio.to_thread(function, *arguments, **options)
