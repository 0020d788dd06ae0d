"""Clients of the servers of a comparison: each has one image scored against one caption.

A baseline is a file of `loadtests/baselines` that serves when it is run, and one entry here.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
import numpy as np
from numpy.typing import NDArray

from loadtests.service.load_generators import FORM, form

ScorePair: TypeAlias = Callable[[aiohttp.ClientSession, str, bytes, str], Awaitable[float]]
"""Session, address of the server, JPEG file, caption; to the cosine. Raises where the answer holds none."""


@dataclass(frozen=True)
class Baseline:
    """Another server that scores the same pairs with the same weights."""

    score_pair: ScorePair
    ready_path: str = "/ready"
    """Answers 200 once the weights are loaded."""


async def score_by_plumbline(session: aiohttp.ClientSession, url: str, image: bytes, caption: str) -> float:
    """The cosine of our clipscore."""
    request = {"items": [{"image": {"part": "image"}, "text": caption}]}
    body = form({"request": json.dumps(request).encode()}, {"image": image})
    async with session.post(f"{url}/v1/score", data=body, headers=FORM) as reply:
        answer = await reply.json()
    return float(answer["results"][0]["scores"]["clipscore"]["cosine"])


async def score_by_form(session: aiohttp.ClientSession, url: str, image: bytes, caption: str) -> float:
    """One form, one answer."""
    body = form({"text": caption.encode()}, {"image": image})
    async with session.post(f"{url}/score", data=body, headers=FORM) as reply:
        answer = await reply.json()
    return float(answer["cosine"])


async def score_by_infinity(session: aiohttp.ClientSession, url: str, image: bytes, caption: str) -> float:
    """Two requests at once, one for the image and one for the caption, and the product of their unit embeddings.

    A request holds one kind of input. Images go in as data URIs, embeddings come back as base64, as it advises.
    """
    data = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    of_image, of_text = await asyncio.gather(
        _infinity_embedding(session, url, modality="image", given=data),
        _infinity_embedding(session, url, modality="text", given=caption),
    )
    return float(of_image @ of_text)


async def _infinity_embedding(
    session: aiohttp.ClientSession, url: str, *, modality: str, given: str
) -> NDArray[np.float32]:
    request = {"model": "clip", "modality": modality, "input": [given], "encoding_format": "base64"}
    async with session.post(f"{url}/embeddings", json=request) as reply:
        answer = await reply.json()
    return np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), np.dtype("<f4"))


BASELINES: Mapping[str, Baseline] = {
    "fastapi_open_clip": Baseline(score_by_form),
    "litserve_open_clip": Baseline(score_by_form, ready_path="/health"),
    "infinity_clip": Baseline(score_by_infinity, ready_path="/health"),
}
"""By the names of their files."""
