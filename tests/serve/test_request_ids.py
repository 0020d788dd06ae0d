import re
from typing import Any

import pytest

from plumbline_serve.request_ids import http_middlewares, request_id


@pytest.mark.parametrize("sent", ["a", "x" * 128, "with space", "7f1c-0f3e", "~!@#"])
def test_a_usable_id_is_kept(sent: str) -> None:
    assert request_id(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "   ", "x" * 129, "a\nb", "a\x7f", "naïve", "tab\there"], ids=repr)
def test_any_other_is_replaced_by_a_new_one(sent: str | None) -> None:
    made = request_id(sent)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made != request_id(sent)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        pytest.param([b"caller-7"], re.compile(b"caller-7"), id="usable"),
        pytest.param([], re.compile(b"[0-9a-f]{32}"), id="none"),
        pytest.param([b"\xe9"], re.compile(b"[0-9a-f]{32}"), id="no UTF-8"),
        pytest.param([b"x" * 129], re.compile(b"[0-9a-f]{32}"), id="too long"),
        pytest.param([b"first", b"second"], re.compile(b"first"), id="several"),
    ],
)
async def test_what_stands_behind_meets_one_usable_id(sent: list[bytes], seen: re.Pattern[bytes]) -> None:
    met: list[tuple[bytes, bytes]] = []

    async def application(scope, receive, send):
        met.extend(scope["headers"])

    headers = [(b"accept", b"*/*"), *((b"x-request-id", value) for value in sent)]
    [middleware] = http_middlewares()
    wrapped: Any = middleware.cls(application)  # type: ignore[call-arg]  # ours takes nothing else
    await wrapped({"type": "http", "headers": headers}, None, None)
    assert met[0] == (b"accept", b"*/*")
    assert [name for name, _ in met[1:]] == [b"x-request-id"]
    assert seen.fullmatch(met[1][1])
