"""Request ids: the caller's where it sent a usable one, else a new one; in the header as in the body."""

import os
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from starlette.middleware import Middleware

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

HEADER = b"x-request-id"
_USABLE = re.compile(r"[\x20-\x7e]{1,128}")
_CHANCE = random.Random()  # noqa: S311 - ids are no secrets  # nosec B311
"""Asking the system instead (`uuid4`) lets go of the interpreter's lock, which a busy process gets back late."""
os.register_at_fork(after_in_child=_CHANCE.seed)  # else both would go on with the same ids


def request_id(sent: str | None) -> str:
    """The id that names a request in its answer and in the log.

    Args:
        sent: What the caller sent: kept if it is 1 to 128 printable ASCII characters.
    """
    usable = (sent or "").strip(" ")
    return usable if _USABLE.fullmatch(usable) else f"{_CHANCE.getrandbits(128):032x}"


def http_middlewares() -> list[Middleware]:
    """What Ray Serve wraps its HTTP servers in; it finds this by `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`."""
    return [Middleware(WithUsableId)]


class WithUsableId:
    """An ASGI application that meets one usable id on every request.

    Stands outside of Ray's own handling of the header, which echoes whatever the caller sent and fails on what is not
    UTF-8.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            sent = next((value for name, value in scope["headers"] if name == HEADER), b"")
            others = [pair for pair in scope["headers"] if pair[0] != HEADER]
            chosen = request_id(sent.decode("latin-1"))
            scope = {**scope, "headers": [*others, (HEADER, chosen.encode("ascii"))]}
        await self._app(scope, receive, send)


class WithoutRequestId:
    """An ASGI application that leaves the answer's header to Ray.

    Ray puts an id into the request where there is none, the application answers with that id, and Ray then adds it a
    second time; so the application's is taken away.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != HEADER]
            await send(message)

        await self.app(scope, receive, send_once)
