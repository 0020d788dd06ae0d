"""How each server of a comparison has one picture scored against one caption.

A peer is a file of `loadtests/peers` that serves when it is run, and one entry here.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
from callers import FORM, form

Ask: TypeAlias = Callable[[aiohttp.ClientSession, str, bytes, str], Awaitable[float]]
"""Session, address of the server, JPEG file, caption; to the cosine. Raises where the answer holds none."""


@dataclass(frozen=True)
class Peer:
    """Another server that scores the same pairs with the same weights."""

    ask: Ask
    ready_path: str = "/ready"
    """Answers 200 once the weights are loaded."""


async def ask_plumbline(session: aiohttp.ClientSession, url: str, picture: bytes, caption: str) -> float:
    """The cosine of our clipscore."""
    request = {"items": [{"image": {"part": "picture"}, "text": caption}]}
    body = form({"request": json.dumps(request).encode()}, {"picture": picture})
    async with session.post(f"{url}/v1/score", data=body, headers=FORM) as reply:
        answer = await reply.json()
    return float(answer["results"][0]["scores"]["clipscore"]["cosine"])


async def ask_fastapi_open_clip(session: aiohttp.ClientSession, url: str, picture: bytes, caption: str) -> float:
    """One form, one answer."""
    body = form({"text": caption.encode()}, {"picture": picture})
    async with session.post(f"{url}/score", data=body, headers=FORM) as reply:
        answer = await reply.json()
    return float(answer["cosine"])


PEERS: Mapping[str, Peer] = {
    "fastapi_open_clip": Peer(ask_fastapi_open_clip),
}
"""By the names of their files."""
