"""Images fetched from hosts that answer well, and from hosts that do what they can against it."""

import asyncio
import re
from collections.abc import Callable

import pytest

from plumbline_models.core.errors import (
    CapacityError,
    ConfigError,
    ImageTooLargeError,
    RequestTooLargeError,
    UrlTimeoutError,
    UrlUnreachableError,
)
from plumbline_serve.fetching.exchange import BROKEN
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.messages import BrokenImage, EncodedImage, UrlImage
from plumbline_serve.settings import Limits
from tests.serve.fetching.asking import IMAGE, IMPATIENT_S, NOT_PROVEN, PATIENT_S, fetch, url
from tests.serve.fetching.hosts import (
    LOOPBACK,
    MAX_IMAGE_BYTES,
    NAME,
    Host,
    endless,
    make_fetcher,
    redirect,
    reply,
    saying,
    silent,
    unheard,
)


async def test_an_image_is_asked_for_with_nothing_of_ours(open_host, open_fetches, monkeypatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    host = await open_host(reply(IMAGE))
    assert await fetch(open_fetches(host), url(host, "/a%20b.png?signature=x")) == IMAGE
    assert host.asked == [
        f"GET /a%20b.png?signature=x HTTP/1.1\r\nhost: {NAME}:{host.port}\r\nuser-agent: plumbline\r\n"
        "accept: image/*\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n".encode()
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(reply(IMAGE, "content-type: text/html"), id="as another type"),
        pytest.param(reply(IMAGE, "content-encoding: identity"), id="as it is"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + reply(IMAGE), id="behind hints"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(IMAGE), IMAGE),
            id="in chunks",
        ),
        pytest.param(reply(IMAGE) + reply(b"another"), id="with another reply behind it"),
    ],
)
async def test_the_body_is_the_image(open_host, open_fetches, content: bytes) -> None:
    host = await open_host(content)
    assert await fetch(open_fetches(host), url(host)) == IMAGE


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        pytest.param(reply(status="404 Not Found"), UrlUnreachableError, "answered with status 404", id="not found"),
        pytest.param(reply(status="500 Oops"), UrlUnreachableError, "answered with status 500", id="server error"),
        pytest.param(reply(IMAGE, status="206 Part"), UrlUnreachableError, "answered with status 206", id="a part"),
        pytest.param(b"HTTP/1.1 204 No\r\n\r\n", UrlUnreachableError, "answered with status 204", id="no content"),
        pytest.param(reply(status="304 Same"), UrlUnreachableError, "answered with status 304", id="not modified"),
        pytest.param(reply(status="302 Found"), UrlUnreachableError, "answered with status 302", id="to nowhere"),
        pytest.param(
            reply(b"", "location: /a", "location: /b", status="302 Found"),
            UrlUnreachableError,
            "answered with status 302",
            id="to two places",
        ),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            UrlUnreachableError,
            "is broken",
            id="another protocol",
        ),
        pytest.param(
            reply(b"\x1f\x8b" + IMAGE, "content-encoding: gzip"), UrlUnreachableError, "compressed body", id="gzip bomb"
        ),
        pytest.param(reply(IMAGE, "content-encoding: br"), UrlUnreachableError, "compressed body", id="brotli bomb"),
        pytest.param(reply(IMAGE, "transfer-encoding: gzip"), UrlUnreachableError, BROKEN, id="compressed for the way"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + IMAGE, UrlUnreachableError, "where it ends", id="without an end"),
        pytest.param(reply(IMAGE, length=len(IMAGE) + 1), UrlUnreachableError, BROKEN, id="short of its length"),
        pytest.param(reply(IMAGE, "content-length: 7"), UrlUnreachableError, BROKEN, id="two lengths"),
        pytest.param(reply(length=MAX_IMAGE_BYTES + 1), ImageTooLargeError, "more bytes", id="said to be large"),
        pytest.param(reply(length=10**19), ImageTooLargeError, "more bytes", id="said to be enormous"),
        pytest.param(reply(length=-1), UrlUnreachableError, BROKEN, id="said to be less than nothing"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhallo\r\n",
            UrlUnreachableError,
            BROKEN,
            id="cut",
        ),
        pytest.param(b"", UrlUnreachableError, BROKEN, id="nothing"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + IMAGE, UrlUnreachableError, BROKEN, id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\n a: folded\r\n\r\n", UrlUnreachableError, BROKEN, id="folded"),
        pytest.param(b"HTTP/1.1 200 OK\r\na\x00: b\r\n\r\n", UrlUnreachableError, BROKEN, id="null in a header"),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100), UrlUnreachableError, BROKEN, id="headers without end"
        ),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\na: ", b"b" * 9999), UrlUnreachableError, BROKEN, id="a header without end"
        ),
        pytest.param(
            endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), UrlUnreachableError, BROKEN, id="hints without end"
        ),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2000\r\n" + bytes(0x2000) + b"\r\n"),
            ImageTooLargeError,
            "more bytes",
            id="a body without end",
        ),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
            UrlUnreachableError,
            BROKEN,
            id="bytes one by one",
        ),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1;" + b"x" * 9999 + b"\r\nx\r\n"),
            UrlUnreachableError,
            BROKEN,
            id="more framing than content",
        ),
    ],
)
async def test_a_reply_that_is_no_image_is_the_item_s_error(open_host, open_fetches, answer, kind, sentence) -> None:
    host = await open_host(answer)
    with pytest.raises(kind, match=re.escape(sentence)):
        await fetch(open_fetches(host, timeout_s=PATIENT_S), url(host, "/secret"))
    await host.ended.wait()
    assert host.num_connections == 1, "nothing is tried twice"


async def silent_within(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(IMAGE[:100], length=1000))
    await asyncio.Event().wait()


async def dripping(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(length=1000))
    for byte in IMAGE[:1000]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        pytest.param(silent, {"idle_timeout_s": IMPATIENT_S}, id="says nothing"),
        pytest.param(silent_within, {"idle_timeout_s": IMPATIENT_S}, id="stops within the body"),
        pytest.param(dripping, {"timeout_s": IMPATIENT_S}, id="is slow"),
    ],
)
async def test_a_host_that_takes_its_time_is_given_up(open_host, open_fetches, answer, limits) -> None:
    host = await open_host(answer)
    with pytest.raises(UrlTimeoutError, match="not answered in time"):
        await fetch(open_fetches(host, **{"timeout_s": PATIENT_S, "idle_timeout_s": PATIENT_S} | limits), url(host))


async def test_a_host_that_never_finishes_the_handshake_is_given_up(open_fetches) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, LOOPBACK, 0)
    async with server:
        mute = Host(silent)
        mute.port = server.sockets[0].getsockname()[1]
        with pytest.raises(UrlTimeoutError):
            await fetch(open_fetches(mute, timeout_s=PATIENT_S, idle_timeout_s=IMPATIENT_S), url(mute))


async def test_the_time_of_all_hops_counts_together(open_host, open_fetches) -> None:
    async def round_and_round(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(IMPATIENT_S / 4)
        writer.write(redirect("/again"))

    host = await open_host(round_and_round)
    with pytest.raises(UrlTimeoutError):
        await fetch(open_fetches(host, timeout_s=IMPATIENT_S, max_redirects=20), url(host))


async def reset(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def reset_within(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(IMAGE[:100], length=1000))
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize("answer", [reset, reset_within])
async def test_a_connection_that_is_reset_is_the_item_s_error(open_host, open_fetches, answer) -> None:
    host = await open_host(answer)
    with pytest.raises(UrlUnreachableError, match=re.escape(BROKEN)):
        await fetch(open_fetches(host), url(host))


async def test_one_bad_url_harms_no_other(open_host, open_fetches) -> None:
    good, bad = await open_host(reply(IMAGE)), await open_host(reset)
    texts = [url(good, "/1"), url(bad), "http://a.test/", url(good, "/2"), url(good, name="unknown.test")]
    found = await open_fetches(good, bad).each([UrlImage(text) for text in texts])
    assert [type(each) for each in found] == [EncodedImage, BrokenImage, BrokenImage, EncodedImage, BrokenImage]


async def test_equal_urls_of_a_request_are_fetched_once(open_host, open_fetches) -> None:
    host, seconds = await open_host(reply(IMAGE)), list[float]()
    found = await open_fetches(host, seconds=seconds).each([UrlImage(url(host)), UrlImage(url(host))])
    assert found == [EncodedImage(IMAGE)] * 2
    assert (host.num_connections, len(seconds)) == (1, 1)


class Gate:
    """An answer that waits until the test lets it go, and knows how many wait with it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.num_waiting = 0
        self.most_waiting = 0
        self.arrived = asyncio.Event()

    async def __call__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.num_waiting += 1
        self.most_waiting = max(self.most_waiting, self.num_waiting)
        self.arrived.set()
        try:
            await self.open.wait()
        finally:
            self.num_waiting -= 1
        writer.write(reply(IMAGE))

    async def have(self, num_waiting: int) -> None:
        while self.num_waiting < num_waiting:
            self.arrived.clear()
            await self.arrived.wait()


@pytest.mark.parametrize(
    ("bounds", "num_requests"),
    [
        pytest.param({"max_fetches_per_request": 2}, 1, id="of a request"),
        pytest.param({"max_fetches_per_host": 2}, 3, id="from a host"),
        pytest.param({"max_fetches": 2}, 3, id="of the process"),
    ],
)
async def test_as_many_are_fetched_at_a_time_as_are_allowed(open_host, names, ca_file, bounds, num_requests) -> None:
    gate = Gate()
    host = await open_host(gate)
    fetcher = make_fetcher(names, ca_file, [host], BytesInFlight(Limits()), **bounds)
    requests = [fetcher.open(unheard) for _ in range(num_requests)]
    urls = [[UrlImage(url(host, f"/{index}/{each}")) for each in range(4)] for index in range(num_requests)]
    fetching = asyncio.gather(*(request.each(each) for request, each in zip(requests, urls, strict=True)))
    await gate.have(2)
    gate.open.set()
    found = await fetching
    assert [image for images in found for image in images] == [EncodedImage(IMAGE)] * 4 * num_requests
    assert gate.most_waiting == 2
    for request in requests:
        request.close()


async def test_one_host_does_not_take_the_turns_of_another(open_host, names, ca_file) -> None:
    gate = Gate()
    slow, quick = await open_host(gate), await open_host(reply(IMAGE))
    names.answers["quick.images.test"] = [[LOOPBACK]]
    fetcher = make_fetcher(
        names, ca_file, [slow, quick], BytesInFlight(Limits()), max_fetches=2, max_fetches_per_host=1
    )
    waiting, other = fetcher.open(unheard), fetcher.open(unheard)
    fetching = asyncio.create_task(waiting.each([UrlImage(url(slow, f"/{each}")) for each in range(3)]))
    await gate.have(1)
    assert await fetch(other, url(quick, name="quick.images.test")) == IMAGE
    gate.open.set()
    await fetching
    waiting.close()
    other.close()


async def test_fetched_bytes_are_in_flight_until_the_request_ends(open_host, names, ca_file) -> None:
    in_flight = BytesInFlight(Limits())
    host, cut = await open_host(reply(IMAGE)), await open_host(reply(IMAGE, length=2 * len(IMAGE)))
    fetches = make_fetcher(names, ca_file, [host, cut], in_flight).open(unheard)
    await fetch(fetches, url(host, "/1"))
    await fetch(fetches, url(host, "/2"))
    with pytest.raises(UrlUnreachableError):
        await fetch(fetches, url(cut))
    assert in_flight.num_bytes == 2 * len(IMAGE)
    fetches.close()
    assert in_flight.num_bytes == 0


async def test_images_of_a_request_have_no_more_bytes_than_one_that_carries_them(open_host, open_fetches) -> None:
    host = await open_host(reply(IMAGE))
    fetches = open_fetches(host, limits=Limits(max_request_bytes=2 * len(IMAGE) + 1), max_fetches_per_request=1)
    found = await fetches.each([UrlImage(url(host, f"/{each}")) for each in range(3)])
    assert found[:2] == [EncodedImage(IMAGE)] * 2
    assert isinstance(found[2], BrokenImage)
    assert isinstance(found[2].error, RequestTooLargeError)


async def test_a_request_is_refused_where_all_requests_hold_as_much_as_they_may(open_host, names, ca_file) -> None:
    in_flight = BytesInFlight(Limits(max_bytes_in_flight=len(IMAGE) + 1))
    host = await open_host(reply(IMAGE))
    fetcher = make_fetcher(names, ca_file, [host], in_flight)
    first, second = fetcher.open(unheard), fetcher.open(unheard)
    await fetch(first, url(host))
    with pytest.raises(CapacityError):
        await fetch(second, url(host))
    first.close()
    assert await fetch(second, url(host)) == IMAGE
    second.close()
    assert in_flight.num_bytes == 0


@pytest.mark.parametrize("answer", [silent, silent_within])
async def test_connections_end_with_the_request(open_host, names, ca_file, answer: Callable) -> None:
    in_flight, arrived = BytesInFlight(Limits()), asyncio.Event()

    async def announced(head: bytes, writer: asyncio.StreamWriter) -> None:
        await saying(b"")(head, writer)
        arrived.set()
        closing = asyncio.ensure_future(writer.wait_closed())
        answering = asyncio.ensure_future(answer(head, writer))
        await asyncio.wait([closing, answering], return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()

    host = await open_host(announced)
    fetches = make_fetcher(names, ca_file, [host], in_flight).open(unheard)
    fetching = asyncio.create_task(fetches.each([UrlImage(url(host))]))
    await arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await host.ended.wait()
    assert in_flight.num_bytes == 0
    fetches.close()


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_a_file_of_authorities_that_cannot_be_used_stops_the_start(names, tmp_path, content) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"The file of authorities .* cannot be used"):
        make_fetcher(names, path, [], BytesInFlight(Limits()))


async def test_without_a_file_the_system_s_authorities_vouch(open_host, open_fetches) -> None:
    host = await open_host(reply(IMAGE))
    with pytest.raises(UrlUnreachableError, match=NOT_PROVEN):
        await fetch(open_fetches(host, ca_file=None), url(host))
