"""Images a second from JPEG bytes to scores, through the service's own pipeline in this process."""

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, Item, ScoreRequest
from plumbline_serve.settings import Settings

NUM_REQUESTS, ITEMS_A_REQUEST = 64, 32
SIDE_PX = 512


def measure(backend: str, checkpoint: dict[str, str], cache_dir: Path) -> dict[str, Any]:
    """Score distinct JPEGs of 512x512 pixels in requests of 32, all of them under way at once."""
    settings = Settings(backend=backend, cache_dir=cache_dir, scorers={"clipscore": checkpoint})
    return asyncio.run(_measure(settings))


async def _measure(settings: Settings) -> dict[str, Any]:
    requests = [_request(number) for number in range(NUM_REQUESTS)]
    # Of other images: encodings of those that were seen are kept, and would cost nothing the second time.
    warming = [_request(NUM_REQUESTS + number) for number in range(4)]
    async with assembled(settings) as assembly:
        score = assembly.service.score
        await asyncio.gather(*map(score, warming))
        started = time.perf_counter()
        replies = await asyncio.gather(*map(score, requests))
        seconds = time.perf_counter() - started
    num_images = sum(len(reply.results) for reply in replies)
    return {"images": num_images, "images_a_second": num_images / seconds}


def _request(number: int) -> ScoreRequest:
    items = [
        Item(id=str(index), image=EncodedImage(_jpeg(number * ITEMS_A_REQUEST + index)), text="a red cup on a table")
        for index in range(ITEMS_A_REQUEST)
    ]
    return ScoreRequest(items)


def _jpeg(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((SIDE_PX, SIDE_PX)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
