"""What Ray sees of a request, and what the edge sees of it behind Ray."""

from typing import Any

import pytest

from plumbline_serve.deployments.http_servers import LeftToTheEdge


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(b"x-request-timeout-seconds", b"2")], [(b"x-plumbline-timeout-seconds", b"2")], id="a timeout"),
        pytest.param([(b"x-plumbline-timeout-seconds", b"9")], [], id="the name it has behind Ray"),
        pytest.param([(b"x-request-disconnect-disabled", b"?0")], [], id="a wish to be watched"),
        pytest.param([(b"accept", b"*/*")], [(b"accept", b"*/*")], id="anything else"),
    ],
)
async def test_ray_neither_times_nor_watches_a_request(
    sent: list[tuple[bytes, bytes]], seen: list[tuple[bytes, bytes]]
) -> None:
    met: list[tuple[bytes, bytes]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        met.extend(scope["headers"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await LeftToTheEdge(application)({"type": "http", "headers": sent}, nothing, nothing)
    assert met == [*seen, (b"x-request-disconnect-disabled", b"?1")]
