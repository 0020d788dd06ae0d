"""Base64 as senders write it: every form of RFC 4648, MIME's lines, and `data:` URLs."""

import base64

import pytest

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.decode import DecodePolicy
from plumbline_serve.messages import Base64Image, EncodedImage
from plumbline_serve.requests.contents import QUICK_BYTES
from plumbline_serve.requests.images import QUICK_CHARS, are_quick, open_source

POLICY = DecodePolicy(max_bytes=1000, max_pixels=1000)
DATA = bytes(range(256)) + b"\xfb\xff\xfe\xfd"  # not a multiple of three, and with both of the letters that differ
PLAIN = base64.b64encode(DATA).decode()

FORMS = [
    pytest.param(PLAIN, id="as usual"),
    pytest.param(PLAIN.rstrip("="), id="without padding"),
    pytest.param(base64.urlsafe_b64encode(DATA).decode(), id="for URLs"),
    pytest.param(base64.urlsafe_b64encode(DATA).decode().rstrip("="), id="for URLs, without padding"),
    pytest.param(base64.encodebytes(DATA).decode(), id="lines of 76"),
    pytest.param(base64.encodebytes(DATA).decode().replace("\n", "\r\n"), id="lines of 76 as in mail"),
    pytest.param(f" {PLAIN}\n", id="blanks around"),
    pytest.param(f"data:image/png;base64,{PLAIN}", id="data URL"),
    pytest.param(f"DATA:image/png;charset=x;BASE64,{PLAIN}", id="data URL in capitals, with parameters"),
    pytest.param(f"data:;base64,{PLAIN.replace('+', '%2B').replace('/', '%2F')}", id="data URL with escapes"),
]


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_base64_is_read(text: str) -> None:
    assert open_source(Base64Image(text), POLICY) == EncodedImage(DATA)


WRONG = [
    pytest.param("%%%", "it holds other characters", id="other characters"),
    pytest.param("YQ==YQ==", "it holds other characters", id="padding inside"),
    pytest.param("YWäJ", "it holds other characters", id="beyond ASCII"),
    pytest.param("YWJjZ", "it breaks off", id="one digit too many"),
    pytest.param("data:image/png,%89PNG", "data: URL is not one of base64", id="data URL without base64"),
    pytest.param("data:image/png;base64", "data: URL is not one of base64", id="data URL without data"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_what_is_none_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ImageUndecodableError, match=reason):
        open_source(Base64Image(text), POLICY)


def test_line_breaks_do_not_count_towards_the_limit_and_bytes_do() -> None:
    most = base64.encodebytes(bytes(1000)).decode()
    assert open_source(Base64Image(most), POLICY) == EncodedImage(bytes(1000))
    for text in (base64.b64encode(bytes(1005)).decode(), base64.encodebytes(bytes(1005)).decode()):
        with pytest.raises(ImageTooLargeError):
            open_source(Base64Image(text), POLICY)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([Base64Image("A" * QUICK_CHARS)], True, id="a small image in base64"),
        pytest.param([Base64Image("A" * QUICK_CHARS), EncodedImage(b"A")], False, id="and one more"),
        pytest.param([EncodedImage(b"A" * QUICK_BYTES)], True, id="a file"),
        pytest.param([EncodedImage(b"A" * QUICK_BYTES), EncodedImage(b"A")], False, id="two files"),
    ],
)
def test_what_takes_less_than_a_hop_to_another_thread_is_opened_at_once(sources, expected: bool) -> None:
    assert are_quick(sources) is expected
