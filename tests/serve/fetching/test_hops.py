"""Each hop to an image: whose certificate counts, what a name leads to, and where a redirect may lead."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from plumbline_models.core.errors import (
    UrlSourceRefusedError,
    UrlUnreachableError,
)
from plumbline_serve.fetching.connection import UNREACHABLE
from tests.serve.fetching.asking import IMAGE, NOT_PROVEN, fetch, url
from tests.serve.fetching.hosts import (
    LOOPBACK,
    NAME,
    Host,
    redirect,
    reply,
    silent,
)


def expired(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(NAME, not_after=datetime.now(UTC) - timedelta(days=1))


@pytest.mark.parametrize(
    "issue",
    [
        pytest.param(lambda authority: authority.issue_cert("other.test"), id="of another host"),
        pytest.param(lambda authority: authority.issue_cert(LOOPBACK), id="of the address"),
        pytest.param(lambda _: trustme.CA().issue_cert(NAME), id="of an unknown authority"),
        pytest.param(expired, id="that has expired"),
    ],
)
async def test_a_certificate_must_be_the_host_s(open_host, open_fetches, authority, issue) -> None:
    host = await open_host(reply(IMAGE), certificate=issue(authority))
    with pytest.raises(UrlUnreachableError, match=NOT_PROVEN):
        await fetch(open_fetches(host), url(host))
    assert host.asked == []


async def test_a_host_without_tls_is_not_asked(open_fetches) -> None:
    asked: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1000))
        writer.write(reply(IMAGE))
        writer.close()

    server = await asyncio.start_server(plain, LOOPBACK, 0)
    async with server:
        host = Host(silent)
        host.port = server.sockets[0].getsockname()[1]
        with pytest.raises(UrlUnreachableError, match=NOT_PROVEN):
            await fetch(open_fetches(host), url(host, "/secret"))
    assert b"secret" not in b"".join(asked)


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(open_host, open_fetches, names) -> None:
    host = await open_host(reply(IMAGE))
    names.answers[NAME] = [[LOOPBACK], ["169.254.169.254"]]
    assert await fetch(open_fetches(host), url(host)) == IMAGE
    assert names.asked == [NAME]
    with pytest.raises(UrlUnreachableError):
        await fetch(open_fetches(host), url(host))
    assert host.num_connections == 1


async def test_each_hop_is_resolved_and_checked_anew(open_host, open_fetches, names) -> None:
    host = await open_host(redirect("/again"))
    names.answers[NAME] = [[LOOPBACK], ["10.0.0.1"]]
    with pytest.raises(UrlUnreachableError, match=re.escape(UNREACHABLE)):
        await fetch(open_fetches(host), url(host))
    assert (names.asked, host.num_connections) == ([NAME, NAME], 1)


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([LOOPBACK, "10.0.0.1"], id="a private one last"),
        pytest.param(["127.0.0.2", LOOPBACK], id="a private one first"),
        pytest.param([LOOPBACK, "::ffff:127.0.0.1"], id="a mapped one"),
        pytest.param([LOOPBACK, "fd00:ec2::254"], id="metadata"),
        pytest.param([], id="none at all"),
    ],
)
async def test_every_address_of_an_answer_is_checked(open_host, open_fetches, names, addresses) -> None:
    host = await open_host(reply(IMAGE))
    names.answers[NAME] = [addresses]
    with pytest.raises(UrlUnreachableError) as private:
        await fetch(open_fetches(host), url(host))
    assert host.num_connections == 0
    with pytest.raises(UrlUnreachableError) as unknown:
        await fetch(open_fetches(host), url(host, name="unknown.test"))
    assert private.value.detail == unknown.value.detail, "a caller cannot tell names of our network from none"


async def test_the_next_address_is_tried_where_one_takes_no_connections(open_host, open_fetches, names) -> None:
    host = await open_host(reply(IMAGE))
    names.answers[NAME] = [["127.0.0.3", LOOPBACK]]
    fetches = open_fetches(host, allow_networks=["127.0.0.1/32", "127.0.0.3/32"])
    assert await fetch(fetches, url(host)) == IMAGE


async def test_a_host_that_takes_no_connections_is_the_item_s_error(open_host, open_fetches) -> None:
    host = await open_host(reply(IMAGE))
    closed = Host(silent)
    closed.port = 1
    with pytest.raises(UrlUnreachableError, match=re.escape(UNREACHABLE)):
        await fetch(open_fetches(host, closed), url(closed))


async def test_an_address_in_the_url_is_checked_and_needs_no_name(open_host, open_fetches, names) -> None:
    host = await open_host(reply(IMAGE))
    assert await fetch(open_fetches(host), url(host, name=LOOPBACK)) == IMAGE
    for address in ("127.0.0.2", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]"):
        with pytest.raises(UrlSourceRefusedError, match="its address is not public"):
            await fetch(open_fetches(host), url(host, name=address))
    assert names.asked == []


async def test_redirects_are_followed_with_nothing_of_the_first_host(open_host, open_fetches, names) -> None:
    names.answers["b.images.test"] = [[LOOPBACK]]
    last = await open_host(reply(IMAGE))
    first = await open_host(
        reply(b"", f"location: {url(last, '/b', 'b.images.test')}", "set-cookie: a=b", status="307 Over there")
    )
    assert await fetch(open_fetches(first, last), url(first, "/a?secret")) == IMAGE
    (head,) = last.asked
    assert head.startswith(b"GET /b HTTP/1.1\r\nhost: b.images.test:")
    assert b"cookie" not in head
    assert b"refer" not in head
    assert b"secret" not in head


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        pytest.param("http://images.test/a.png", UrlSourceRefusedError, id="without TLS"),
        pytest.param("file:///etc/passwd", UrlSourceRefusedError, id="file"),
        pytest.param("data:image/png;base64,aaaa", UrlSourceRefusedError, id="data"),
        pytest.param("https://169.254.169.254/latest/meta-data/", UrlSourceRefusedError, id="metadata"),
        pytest.param("https://[fd00:ec2::254]/", UrlSourceRefusedError, id="metadata of IPv6"),
        pytest.param("https://metadata.test/", UrlUnreachableError, id="a name of metadata"),
        pytest.param("https://127.0.0.2:{port}/", UrlSourceRefusedError, id="loopback"),
        pytest.param("https://inner.test:{port}/", UrlUnreachableError, id="a name of loopback"),
        pytest.param("https://0x7f.0.0.2:{port}/", UrlSourceRefusedError, id="loopback, hexadecimal"),
        pytest.param("https://user:word@images.test:{port}/", UrlSourceRefusedError, id="credentials"),
        pytest.param("https://images.test:22/", UrlSourceRefusedError, id="another port"),
        pytest.param("//127.0.0.2:{port}/", UrlSourceRefusedError, id="loopback, without a scheme"),
    ],
)
async def test_a_redirect_leads_nowhere_that_is_refused(open_host, open_fetches, names, location, kind) -> None:
    inner = await open_host(reply(IMAGE), address="127.0.0.2")
    names.answers |= {"metadata.test": [["169.254.169.254"]], "inner.test": [["127.0.0.2"]]}
    host = await open_host(redirect(location.format(port=inner.port)))
    with pytest.raises(kind):
        await fetch(open_fetches(host, inner), url(host))
    assert (host.num_connections, inner.num_connections) == (1, 0)


async def test_a_redirect_to_a_host_that_is_not_listed_is_refused(open_host, open_fetches, names) -> None:
    names.answers["other.test"] = [[LOOPBACK]]
    other = await open_host(reply(IMAGE))
    host = await open_host(redirect(url(other, name="other.test")))
    with pytest.raises(UrlSourceRefusedError, match=r"After a redirect: .* its host is not allowed"):
        await fetch(open_fetches(host, other, allow_hosts=[NAME]), url(host))
    assert other.num_connections == 0


@pytest.mark.parametrize("max_redirects", [0, 1, 5])
async def test_redirects_are_counted(open_host, open_fetches, max_redirects: int) -> None:
    host = await open_host(redirect("/round"))
    with pytest.raises(UrlUnreachableError, match="redirected too often"):
        await fetch(open_fetches(host, max_redirects=max_redirects), url(host))
    assert host.num_connections == max_redirects + 1
