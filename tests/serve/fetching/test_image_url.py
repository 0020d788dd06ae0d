"""Which URLs are taken apart, into what, and which are refused unread."""

import pytest

from plumbline_models.core.errors import UrlSourceRefusedError
from plumbline_serve.fetching.image_url import ImageUrl, read_url
from plumbline_serve.settings.urls import UrlSettings

ANY = UrlSettings(enabled=True, allow_hosts=("*",), allow_ports=(443, 8443))
LISTED = UrlSettings(enabled=True, allow_hosts=("images.example.com", "*.cdn.example.com", "192.0.2.7"))
ODD = "its host is not a name or an address in its usual form"
HOST, CREDENTIALS = "its host is not allowed", "it holds a user name or a password"
SCHEME, CHARACTERS = "it does not begin with https://", "it holds spaces, control characters or backslashes"


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        pytest.param("https://a.example/b.png", "a.example", 443, b"/b.png", id="plain"),
        pytest.param("HTTPS://A.Example/B.png", "a.example", 443, b"/B.png", id="capitals"),
        pytest.param("https://a.example", "a.example", 443, b"/", id="no path"),
        pytest.param("https://a.example?q=1", "a.example", 443, b"/?q=1", id="no path, a query"),
        pytest.param("https://a.example/b#c?d", "a.example", 443, b"/b", id="fragment"),
        pytest.param("https://a.example:8443/", "a.example", 8443, b"/", id="port"),
        pytest.param("https://a.example:443/", "a.example", 443, b"/", id="usual port"),
        pytest.param("https://a.example/%2e%2E/%zz?x=%20+", "a.example", 443, b"/%2e%2E/%zz?x=%20+", id="escapes"),
        pytest.param("https://a.example/ä?ö=雪", "a.example", 443, b"/%C3%A4?%C3%B6=%E9%9B%AA", id="letters"),
        pytest.param('https://a.example/"<x>|{}', "a.example", 443, b"/%22%3Cx%3E%7C%7B%7D", id="signs"),
        pytest.param("https://bücher.example/", "xn--bcher-kva.example", 443, b"/", id="IDNA"),
        pytest.param("https://BÜCHER。example/", "xn--bcher-kva.example", 443, b"/", id="IDNA, other dot"),
        pytest.param("https://my_bucket.s3.example/", "my_bucket.s3.example", 443, b"/", id="underscore"),
        pytest.param("https://1.1.1.1/", "1.1.1.1", 443, b"/", id="IPv4"),
        pytest.param("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, b"/", id="IPv6"),
        pytest.param("https://[2606:4700:0:0::0:1111]/", "2606:4700::1111", 443, b"/", id="IPv6, long"),
        pytest.param("https://[::ffff:127.0.0.1]/", "::ffff:7f00:1", 443, b"/", id="IPv6, mapped"),
        pytest.param("https://a.example//b//c", "a.example", 443, b"//b//c", id="slashes"),
        pytest.param("https://a.example/@b:c", "a.example", 443, b"/@b:c", id="at sign in the path"),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(text: str, host: str, port: int, target: bytes) -> None:
    assert read_url(text, ANY) == ImageUrl(host, port, target)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", SCHEME, id="empty"),
        pytest.param("a.example/b.png", SCHEME, id="no scheme"),
        pytest.param("//a.example/b.png", SCHEME, id="network path"),
        pytest.param("http://a.example/", SCHEME, id="http"),
        pytest.param("ftp://a.example/", SCHEME, id="ftp"),
        pytest.param("file:///etc/passwd", SCHEME, id="file"),
        pytest.param("gopher://a.example:70/_", SCHEME, id="gopher"),
        pytest.param("javascript:alert(1)", SCHEME, id="javascript"),
        pytest.param("https:/a.example/", SCHEME, id="one slash"),
        pytest.param("https:a.example", SCHEME, id="no slash"),
        pytest.param("view-source:https://a.example/", SCHEME, id="two schemes"),
        pytest.param("https://", ODD, id="no host"),
        pytest.param("https:///b.png", ODD, id="no host, a path"),
        pytest.param("https://?a.example", ODD, id="no host, a query"),
        pytest.param("https://user@a.example/", CREDENTIALS, id="user"),
        pytest.param("https://user:password@a.example/", CREDENTIALS, id="password"),
        pytest.param("https://@a.example/", CREDENTIALS, id="empty user"),
        pytest.param("https://a.example@127.0.0.1/", CREDENTIALS, id="host as a user"),
        pytest.param("https://a.example\\@127.0.0.1/", CHARACTERS, id="backslash"),
        pytest.param("https:\\\\a.example/", CHARACTERS, id="backslashes"),
        pytest.param("https://a.example/ b", CHARACTERS, id="space"),
        pytest.param(" https://a.example/", CHARACTERS, id="space before"),
        pytest.param("https://a.example/\r\nhost: b", CHARACTERS, id="a header"),
        pytest.param("https://a.exa\tmple/", CHARACTERS, id="tab"),
        pytest.param("https://a.example/\x00", CHARACTERS, id="null"),
        pytest.param("https://a.example/\x7f", CHARACTERS, id="delete"),
        pytest.param("https://a.example./", ODD, id="dot behind"),
        pytest.param("https://.a.example/", ODD, id="dot before"),
        pytest.param("https://a..example/", ODD, id="two dots"),
        pytest.param("https://-a.example/", ODD, id="hyphen before"),
        pytest.param(f"https://{'a' * 64}.example/", ODD, id="long label"),
        pytest.param(f"https://{'a.' * 127}example/", ODD, id="long name"),
        pytest.param("https://a%2eexample/", ODD, id="escape in the host"),
        pytest.param("https://a.example%00.b/", ODD, id="escaped null in the host"),
        pytest.param("https://a*.example/", ODD, id="asterisk"),
        pytest.param("https://2130706433/", ODD, id="IPv4 in one number"),
        pytest.param("https://0x7f000001/", ODD, id="IPv4 in one hexadecimal number"),
        pytest.param("https://017700000001/", ODD, id="IPv4 in one octal number"),
        pytest.param("https://127.1/", ODD, id="IPv4 in two parts"),
        pytest.param("https://127.0.1/", ODD, id="IPv4 in three parts"),
        pytest.param("https://0177.0.0.1/", ODD, id="IPv4 with an octal part"),
        pytest.param("https://0x7f.0.0.1/", ODD, id="IPv4 with a hexadecimal part"),
        pytest.param("https://a.example.0x7f/", ODD, id="a name that ends in a number"),
        pytest.param("https://127.0.0.1./", ODD, id="IPv4 with a dot behind"),
        pytest.param("https://1.2.3.256/", ODD, id="IPv4 beyond 255"),
        pytest.param("https://1.2.3.4.5/", ODD, id="IPv4 in five parts"),
        pytest.param("https://::1/", ODD, id="IPv6 without brackets"),
        pytest.param("https://[::1/", ODD, id="IPv6 with one bracket"),
        pytest.param("https://[fe80::1%25eth0]/", ODD, id="IPv6 with a zone"),
        pytest.param("https://[127.0.0.1]/", ODD, id="IPv4 in brackets"),
        pytest.param("https://[a.example]/", ODD, id="a name in brackets"),
        pytest.param("https://xn--\ud800.example/", ODD, id="half a surrogate pair in the host"),
        pytest.param("https://a.example/\ud800", "it holds half of a surrogate pair", id="half a surrogate pair"),
        pytest.param("https://a.example:/", ODD, id="empty port"),
        pytest.param("https://a.example:x/", ODD, id="port of letters"),
        pytest.param("https://a.example:٤٤٣/", ODD, id="port of other digits"),
        pytest.param("https://a.example:443:443/", ODD, id="two ports"),
        pytest.param("https://a.example:-1/", ODD, id="negative port"),
        pytest.param("https://a.example:0/", "its port is not allowed", id="port 0"),
        pytest.param("https://a.example:22/", "its port is not allowed", id="port of another service"),
        pytest.param("https://a.example:99999/", "its port is not allowed", id="port that is none"),
        pytest.param(f"https://a.example/{'a' * 8192}", "it has more than 8192 characters", id="long"),
    ],
)
def test_what_is_odd_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UrlSourceRefusedError) as refused:
        read_url(text, ANY)
    assert refused.value.detail == f"Images are not fetched from this URL: {why}."


def test_digits_of_another_script_are_those_of_an_address() -> None:
    full_width = "127".translate({ord(digit): ord(digit) + 0xFEE0 for digit in "127"})
    assert read_url(f"https://{full_width}.0.0.1/", ANY).host == "127.0.0.1"  # whose address is then refused


@pytest.mark.parametrize(
    "host", ["images.example.com", "a.cdn.example.com", "a.b.cdn.example.com", "IMAGES.example.com", "192.0.2.7"]
)
def test_hosts_on_the_list_are_allowed(host: str) -> None:
    assert read_url(f"https://{host}/", LISTED).host == host.lower()


@pytest.mark.parametrize(
    "host",
    [
        "example.com", "cdn.example.com", "a.images.example.com", "xcdn.example.com", "images.example.com.evil.test",
        "images.example.comevil.test", "192.0.2.8", "[::1]",
    ],
)  # fmt: skip
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(UrlSourceRefusedError, match=HOST):
        read_url(f"https://{host}/", LISTED)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        pytest.param(b"/c.png", "https://a.example:8443/c.png", id="path"),
        pytest.param(b"c.png", "https://a.example:8443/x/c.png", id="relative"),
        pytest.param(b"../c.png", "https://a.example:8443/c.png", id="upwards"),
        pytest.param(b"?q=2", "https://a.example:8443/x/b.png?q=2", id="query"),
        pytest.param(b"//b.example/c", "https://b.example/c", id="host"),
        pytest.param(b"https://b.example/c", "https://b.example/c", id="whole"),
        pytest.param(b"http://b.example/c", "http://b.example/c", id="http"),
        pytest.param(b"file:///etc/passwd", "file:///etc/passwd", id="file"),
        pytest.param("/ä".encode(), "https://a.example:8443/ä", id="letters"),
    ],
)
def test_a_redirect_is_seen_from_its_url(location: bytes, text: str) -> None:
    assert ImageUrl("a.example", 8443, b"/x/b.png?q=1").redirected(location) == text


@pytest.mark.parametrize("location", [b"\xff", b"//[::1", b"https://[x]/"])
def test_a_redirect_that_cannot_be_read_is_refused(location: bytes) -> None:
    with pytest.raises(UrlSourceRefusedError):
        read_url(ImageUrl("a.example", 443, b"/").redirected(location), ANY)


def test_the_host_header_has_brackets_and_unusual_ports() -> None:
    assert ImageUrl("2606:4700::1111", 8443, b"/").authority == "[2606:4700::1111]:8443"
    assert ImageUrl("a.example", 443, b"/").authority == "a.example"
