import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest
from starlette.responses import StreamingResponse

from plumbline_client import (
    AsyncClient,
    CapacityError,
    Client,
    ConnectError,
    DeadlineError,
    DeadlineExceededError,
    ForbiddenError,
    Image,
    InvalidRequestError,
    Item,
    ProblemError,
    Threshold,
    UnauthenticatedError,
    UnexpectedReplyError,
    UsageError,
)

SCORES = {"request_id": "r", "results": [], "timing_ms": {"decode": 1, "queue": 2, "compute": 3, "total": 6}}
BUSY = {"type": "t", "title": "Overloaded", "status": 429, "detail": "The queue is full.", "code": "overloaded"}
PNG = b"\x89PNG\r\n\x1a\n--\r\n\x00\xff"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """One for all tests: each makes its TLS context anew, which takes longer than the tests do."""
    with httpx.Client() as http:
        yield http


@pytest.fixture
def client(rest_server, slept, http) -> Client:
    return Client(rest_server.url, sleep=slept.append, http=http)


def test_images_travel_as_multipart_byte_by_byte(rest_server, client) -> None:
    rest_server.answer(SCORES)
    client.score([Item(Image.data(PNG), "a fox", id="1"), Item(Image.data(b"\r\n"))], scorers=["clipscore"])
    (arrived,) = rest_server.arrived
    document = arrived.document
    assert (arrived.method, arrived.path) == ("POST", "/v1/score")
    assert document["scorers"] == ["clipscore"]
    assert [item.get("text") for item in document["items"]] == ["a fox", None]
    assert [item.get("id") for item in document["items"]] == ["1", None]
    assert [arrived.parts[item["image"]["part"]] for item in document["items"]] == [PNG, b"\r\n"]
    assert len(arrived.parts) == 2
    assert "images" not in document


def test_an_image_of_several_items_is_sent_once(rest_server, client) -> None:
    rest_server.answer(SCORES)
    shared, single = Image.data(PNG), Image.data(PNG)
    client.score([Item(shared, "a"), Item(single, "b"), Item(shared, "c")])
    (arrived,) = rest_server.arrived
    first, second, third = (item["image"] for item in arrived.document["items"])
    assert first == third
    assert list(arrived.document["images"]) == [first]
    assert arrived.document["images"][first] != second
    assert list(arrived.parts.values()) == [PNG, PNG]
    assert "scorers" not in arrived.document


def test_a_candidate_that_stands_twice_is_sent_once(rest_server, client) -> None:
    rest_server.answer({"scorer": "clipscore", "ranking": []})
    image = Image.data(PNG)
    client.rank("a fox", [image, image])
    (arrived,) = rest_server.arrived
    first, second = arrived.document["images"]
    assert first == second
    assert len(arrived.parts) == 1


def test_raw_pixels_carry_their_size(rest_server, client) -> None:
    rest_server.answer(SCORES)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    client.score([Item(Image.raw(pixels), "a")])
    (arrived,) = rest_server.arrived
    source = arrived.document["items"][0]["image"]
    assert source["raw"] == {"height": 2, "width": 3}
    assert arrived.parts[source["part"]] == pixels.tobytes()


def test_raw_pixels_with_transparency_carry_their_channels(rest_server, client) -> None:
    rest_server.answer(SCORES)
    client.score([Item(Image.raw(np.zeros((2, 3, 4), np.uint8)), "a")])
    (arrived,) = rest_server.arrived
    assert arrived.document["items"][0]["image"]["raw"] == {"height": 2, "width": 3, "channels": 4}


def test_without_image_bytes_the_body_is_json(rest_server, client) -> None:
    rest_server.answer(SCORES)
    client.score([Item(Image.url("https://host/a.png"), "ä ☃"), Item(text="")])
    (arrived,) = rest_server.arrived
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.document["items"] == [{"image": {"url": "https://host/a.png"}, "text": "ä ☃"}, {"text": ""}]


def test_what_the_caller_left_open_is_left_out(rest_server, client) -> None:
    rest_server.answer({"results": []})
    client.filter(
        [Item(text="a")],
        [Threshold("qualiclip", min=0.4), Threshold("vqascore", max=0.5, min_words=2)],
        timeout_ms=None,
    )
    (arrived,) = rest_server.arrived
    assert arrived.document == {
        "policy": {"all": [{"scorer": "qualiclip", "min": 0.4}, {"scorer": "vqascore", "max": 0.5, "min_words": 2}]},
        "items": [{"text": "a"}],
    }


def test_key_id_and_headers_are_sent(rest_server) -> None:
    rest_server.answer(SCORES)
    with Client(rest_server.url, api_key="hush", headers={"X-Tenant": "blue"}) as client:
        client.score([Item(text="a")], request_id="mine")
        client.score([Item(text="a")])
        assert "hush" not in repr(client)
    first, second = (arrived.headers for arrived in rest_server.arrived)
    assert first["authorization"] == "Bearer hush"
    assert first["x-tenant"] == "blue"
    assert first["x-request-id"] == "mine"
    assert second["x-request-id"] not in {"", "mine"}


def test_the_service_is_told_how_much_time_is_left(rest_server, client) -> None:
    rest_server.answer(SCORES)
    client.score([Item(text="a")], timeout_ms=5000)
    assert 0 < rest_server.arrived[0].document["timeout_ms"] <= 5000


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, UnauthenticatedError),
        (403, ForbiddenError),
        (404, InvalidRequestError),
        (413, InvalidRequestError),
        (415, InvalidRequestError),
        (422, InvalidRequestError),
        (429, CapacityError),
        (500, ProblemError),
        (503, CapacityError),
        (504, DeadlineExceededError),
    ],
)
def test_a_problem_is_raised_by_its_status(rest_server, client, status: int, kind: type[ProblemError]) -> None:
    faults = [{"pointer": "/items/0/text", "detail": "must be a string"}]
    said = {"type": "t", "title": "T", "status": status, "detail": "No.", "code": "no", "errors": faults, "new": 1}
    rest_server.answer(said, status, {"x-request-id": "theirs"})
    with pytest.raises(ProblemError) as caught:
        client.score([Item(text="a")])
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, DeadlineError) == (status == 504)
    assert (str(error), error.code, error.request_id) == ("No.", "no", "theirs")
    assert error.problem.errors[0].pointer == "/items/0/text"
    assert error.problem.model_extra == {"new": 1}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"detail": [{"loc": ["body"], "msg": "x"}]}, id="another server's JSON"),
        pytest.param(["no"], id="no object"),
        pytest.param("no", id="a string"),
    ],
)
def test_an_error_that_is_no_problem_document_is_one_all_the_same(rest_server, client, said: object) -> None:
    rest_server.answer(said, 404)
    with pytest.raises(InvalidRequestError) as caught:
        client.score([Item(text="a")], request_id="mine")
    assert (caught.value.code, caught.value.request_id) == ("http_404", "mine")


@pytest.mark.parametrize("said", [{"results": [{"id": 1}]}, {"hello": "world"}, []], ids=["types", "other", "list"])
def test_an_answer_of_something_else_is_said_to_be_one(rest_server, client, said: object) -> None:
    rest_server.answer(said)
    with pytest.raises(UnexpectedReplyError):
        client.score([Item(text="a")])
    assert len(rest_server.arrived) == 1


def test_a_retry_waits_as_long_as_the_header_asks(rest_server, client, slept) -> None:
    rest_server.answer(BUSY, 429, {"retry-after": "7"})
    rest_server.answer(BUSY | {"status": 503}, 503, {"retry-after": "3"})
    rest_server.answer(SCORES)
    client.score([Item(Image.data(PNG), "a")])
    assert len(slept) == 2
    assert 7 <= slept[0] < 7.2
    assert 3 <= slept[1] < 3.3
    assert len({arrived.headers["x-request-id"] for arrived in rest_server.arrived}) == 1
    assert [list(arrived.parts.values()) for arrived in rest_server.arrived] == [[PNG]] * 3


def test_a_retry_takes_the_problems_own_finer_number(rest_server, client, slept) -> None:
    rest_server.answer(BUSY | {"retry_after_ms": 250}, 429, {"retry-after": "1"})
    rest_server.answer(SCORES)
    client.score([Item(text="a")])
    assert 0.25 <= slept[0] < 0.4


def test_retry_after_may_be_a_date(rest_server, client, slept) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=1000)
    rest_server.answer(BUSY, 429, {"retry-after": format_datetime(moment, usegmt=True)})
    rest_server.answer(SCORES)
    client.score([Item(text="a")], timeout_ms=None)
    assert 900 < slept[0] < 1001


def test_a_retry_after_that_is_neither_is_not_heeded(rest_server, client, slept) -> None:
    rest_server.answer(BUSY, 429, {"retry-after": "soon"})
    rest_server.answer(SCORES)
    client.score([Item(text="a")])
    assert slept[0] < 0.2


def test_a_wait_beyond_the_deadline_is_not_begun(rest_server, client, slept) -> None:
    rest_server.answer(BUSY, 429, {"retry-after": "60"})
    with pytest.raises(CapacityError):
        client.score([Item(text="a")], timeout_ms=10_000)
    assert slept == []


def test_nobody_there_is_retried_and_then_said(nobody: str, slept) -> None:
    with Client(f"http://{nobody}", sleep=slept.append) as client, pytest.raises(ConnectError) as caught:
        client.score([Item(text="a")], request_id="mine")
    assert len(slept) == 3
    assert caught.value.request_id == "mine"


def test_no_answer_in_time_is_a_deadline_error(rest_server, client, slept) -> None:
    rest_server.never_answer()
    with pytest.raises(DeadlineError):
        client.score([Item(text="a")], timeout_ms=200)
    assert slept == []


async def test_no_answer_in_time_is_a_deadline_error_with_asyncio(rest_server) -> None:
    rest_server.never_answer()
    async with AsyncClient(rest_server.url, timeout_ms=200) as client:
        with pytest.raises(DeadlineError):
            await client.score([Item(text="a")])


async def test_an_answer_that_trickles_in_is_cut_off_with_asyncio(rest_server) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)  # far below the timeout of a single read

    rest_server.answers.append(StreamingResponse(trickle()))
    async with AsyncClient(rest_server.url, timeout_ms=300) as client:
        with pytest.raises(DeadlineError):
            await client.score([Item(text="a")])


def test_a_number_that_json_does_not_have_is_refused(rest_server, client) -> None:
    with pytest.raises(UsageError):
        client.filter([Item(text="a")], [Threshold("clipscore", min=float("nan"))])
    assert rest_server.arrived == []


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        pytest.param("a fox", ["a", "b"], id="texts for a text"),
        pytest.param(Image.data(PNG), [Image.data(PNG)], id="images for an image"),
        pytest.param(Image.data(PNG), "ab", id="a string for texts"),
    ],
)
def test_only_the_two_ways_to_rank_are_sent(rest_server, client, query: object, candidates: object) -> None:
    with pytest.raises(UsageError):
        client.rank(query, candidates)
    assert rest_server.arrived == []


def test_a_callers_own_http_client_stays_open(rest_server) -> None:
    rest_server.answer(SCORES)
    with httpx.Client() as http:
        with Client(rest_server.url + "/", http=http) as client:
            client.score([Item(text="a")])
        assert not http.is_closed
    assert rest_server.arrived[0].path == "/v1/score"


def test_a_repr_shows_no_password() -> None:
    with Client("https://user:hush@host") as client:
        assert repr(client) == "Client('https://host')"


@pytest.mark.parametrize("status", [200, 503])
def test_ready_is_what_readyz_says(rest_server, client, slept, status: int) -> None:
    rest_server.answer({"status": "ready" if status == 200 else status}, status)
    assert client.ready() is (status == 200)
    assert [arrived.path for arrived in rest_server.arrived] == ["/readyz"]
    assert slept == []


def test_nobody_there_is_not_ready(nobody: str) -> None:
    with Client(f"http://{nobody}") as client:
        assert client.ready() is False
