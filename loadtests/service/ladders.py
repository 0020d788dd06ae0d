"""Requests that grow step by step: in items, in the size of an image, in the length of texts."""

import io
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from loadtests.service.images import WORDS, forms
from loadtests.service.load_generators import form

ITEMS = (1, 4, 16, 64, 256, 1024, 4096)
SIZES_PX = (64, 128, 256, 512, 1024, 2048, 4096)
TOKENS = (3, 8, 16, 32, 64, 77)  # the least is one word between the tokens of start and end
TEXTS_A_REQUEST = 32
DETAILS, OF_EACH = (4, 16, 64, 256, 1024), 0.3  # cells a side of the noises that a photograph is blended of
ITEMS_A_ROUND, IMAGES_A_ROUND, TEXTS_A_ROUND = 256, 8, 128  # at least: /proc counts CPU time in steps of 10 ms
SMALL_PX, SMALL_A_ROUND = 512, 64  # images up to this size, which cost little each


@dataclass(frozen=True)
class Step:
    """Requests of one size, and how many things of the kind that grows they hold."""

    name: str
    size: float
    """In the ladder's unit: items, pixels or tokens."""
    bodies: list[bytes]
    num_items: int
    """In all bodies together: what cost is divided by."""
    path: str = "/v1/score"


def item_steps() -> Iterator[Step]:
    """Requests of more and more items, each an image and a caption of its own."""
    for num_items in ITEMS:
        num_requests = max(1, ITEMS_A_ROUND // num_items)
        bodies = list(itertools.islice(forms(num_items, is_new=True), num_requests))
        yield Step(f"{num_items}", num_items, bodies, num_requests * num_items)


def size_steps(kind: Literal["JPEG", "PNG"]) -> Iterator[Step]:
    """Requests of one ever larger square image and a caption."""
    for size_px in SIZES_PX:
        request = json.dumps({"items": [{"image": {"part": "0"}, "text": "a red circle"}]}).encode()
        body = form({"request": request}, {"0": photograph(size_px, kind)})
        num_images = max(IMAGES_A_ROUND, min(SMALL_A_ROUND, SMALL_A_ROUND * SMALL_PX**2 // size_px**2))
        yield Step(f"{kind} {size_px} px", size_px**2, [body] * num_images, num_images)


def text_steps() -> Iterator[Step]:
    """Requests to embed texts of one ever greater length."""
    chance = random.Random(0)  # noqa: S311 - the same texts in every run  # nosec B311
    for num_tokens in TOKENS:
        bodies = []
        for _ in range(TEXTS_A_ROUND // TEXTS_A_REQUEST):
            rest = [chance.choices(WORDS, k=num_tokens - 3) for _ in range(TEXTS_A_REQUEST)]
            texts = [" ".join([first, *words]) for first, words in zip(WORDS, rest, strict=False)]
            bodies.append(form({"request": json.dumps({"texts": texts, "encoding": "base64"}).encode()}, {}))
        yield Step(f"{num_tokens}", num_tokens, bodies, TEXTS_A_ROUND, "/v1/embed")


def photograph(size_px: int, kind: Literal["JPEG", "PNG"]) -> bytes:
    """A square image with detail at every scale, weaker the finer it is, as photographs have it."""
    chance = np.random.default_rng(0)
    image = Image.new("RGB", (1, 1), (128, 128, 128))
    for cells in DETAILS:
        noise = Image.fromarray(chance.integers(0, 256, (cells, cells, 3), np.uint8))
        image = Image.blend(image.resize(noise.size, Image.Resampling.BICUBIC), noise, OF_EACH)
    out = io.BytesIO()
    options = {"quality": 90} if kind == "JPEG" else {"compress_level": 1}
    image.resize((size_px, size_px), Image.Resampling.BICUBIC).save(out, kind, **options)
    return out.getvalue()
