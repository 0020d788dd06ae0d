"""Requests without end: JPEG files and captions that are all new, or the same again and again."""

import io
import itertools
import json
import random
import string
from collections.abc import Iterator

import numpy as np
from PIL import Image

from loadtests.service.load_generators import form
from plumbline_wire.v1 import scoring_pb2 as pb

WORDS = (*string.ascii_lowercase, "red", "green", "blue", "cup", "table", "dog", "cat", "house", "tree")
SHORTEST, LONGEST = 8, 16
_DISTINCT = 16


def forms(num_items: int, *, is_new: bool) -> Iterator[bytes]:
    """Forms of as many items each."""
    texts = captions(is_new=is_new)
    for parts in draw_images(num_items, is_new=is_new):
        items = [{"image": {"part": name}, "text": next(texts)} for name in parts]
        yield form({"request": json.dumps({"items": items}).encode()}, parts)


def messages(num_items: int, *, is_new: bool) -> Iterator[pb.ScoreRequest]:
    """Messages of as many items each."""
    texts = captions(is_new=is_new)
    for parts in draw_images(num_items, is_new=is_new):
        yield pb.ScoreRequest(
            items=[pb.Item(image=pb.ImageSource(data=data), text=next(texts)) for data in parts.values()]
        )


def captions(*, is_new: bool = True) -> Iterator[str]:
    """Captions of 8 to 16 words."""
    chance = random.Random(0)  # noqa: S311 - the same captions in every run  # nosec B311
    while True:
        words = chance.choices(WORDS, k=chance.randint(SHORTEST, LONGEST)) if is_new else WORDS[:SHORTEST]
        yield " ".join(words)


def draw_images(num_images: int, *, is_new: bool) -> Iterator[dict[str, bytes]]:
    """Images of a request, by name.

    New ones differ from all others, also of other runs, by a comment, so that their bytes are new; what they show is
    the same in every run.
    """
    files = [image_of(seed) for seed in range(_DISTINCT if is_new else 1)]
    start = random.SystemRandom().getrandbits(64)
    for number in itertools.count():
        label = f"{start + number if is_new else 0}"
        yield {
            f"{index}": commented(files[(number + index) % len(files)], f"{label}/{index}".encode())
            for index in range(num_images)
        }


def commented(jpeg: bytes, comment: bytes) -> bytes:
    """Other bytes that show the same.

    Args:
        jpeg: A file.
        comment: Of at most 65,533 bytes.
    """
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def image_of(seed: int) -> bytes:
    """A JPEG of 256 by 256 pixels, about 22 kB."""
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()
