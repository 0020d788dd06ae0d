"""One `x-request-id` on every answer: Ray Serve appends its own to whatever an application sends."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
HEADER = b"x-request-id"


class WithoutRequestId:
    """An ASGI application that leaves the header to Ray.

    Ray puts an id into the request where the caller sent none, the application answers with that id, and Ray then
    adds it a second time; so the application's is taken away.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != HEADER]
            await send(message)

        await self._app(scope, receive, send_once)
