"""How long a JSON body of each shape stops the event loop that reads it.

    python -m loadtests.service.json_shapes [--shapes NAME ...]

Each body has as many bytes as a request may, unless its shape is refused for something else. What is measured is the
CPU time of the process between two turns of a task that does nothing: a busy machine does not lengthen it.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest.json_document import read_json
from plumbline_serve.edge.rest.requests import read_document, score_request
from plumbline_serve.settings import Limits

LIMITS = Limits()
NUM_BYTES = 60 * 2**20
NUM_VALUES = 260_000
TURN_S = 0.001


def items(*values: bytes) -> bytes:
    """A body of `POST /v1/score`."""
    return b'{"items":[%s]}' % b",".join(values)


def text(value: bytes) -> bytes:
    """One with one item."""
    return items(b'{"text":"%s"}' % value)


def values(value: bytes) -> bytes:
    """One with as many values as are allowed."""
    return items(*[value] * NUM_VALUES)


def images(num_images: int) -> bytes:
    """One with images in base64."""
    return items(*[b'{"image":{"b64":"%s"}}' % (b"A" * (NUM_BYTES // num_images))] * num_images)


SHAPES: Mapping[str, Callable[[], bytes]] = {
    "one image": lambda: images(1),
    "256 images": lambda: images(256),
    "numbers": lambda: values(b"1"),
    "numbers of 230 digits": lambda: values(b"1" * 230),
    "strings of 228 bytes": lambda: values(b'"%s"' % (b"a" * 228)),
    "empty arrays": lambda: values(b"[]"),
    "nested arrays": lambda: items(*[b"[" * 190 + b"]" * 190] * (NUM_BYTES // 381)),
    "long names": lambda: b"{%s}" % b",".join(b'"%03770d":0' % number for number in range(16_000)),
    "a number of 60 MiB": lambda: b'{"timeout_ms":1.%s}' % (b"1" * NUM_BYTES),
    "white space": lambda: b" " * NUM_BYTES + b"{}",
    "escapes": lambda: text(b"\\u0041" * (NUM_BYTES // 6)),
    "escaped quotes": lambda: text(b'\\"' * (NUM_BYTES // 2)),
    "half a surrogate pair": lambda: text(b"A" * NUM_BYTES + b"\\ud800"),
    "halves of surrogate pairs": lambda: text(b"\\ud800" * (NUM_BYTES // 6)),
    "two bytes per character": lambda: text("é".encode() * (NUM_BYTES // 2)),
    "three bytes per character": lambda: text("中".encode() * (NUM_BYTES // 3)),
    "four bytes per character": lambda: text("😀".encode() * (NUM_BYTES // 4)),
    "commas in a string": lambda: text(b"," * NUM_BYTES),
    "an error at the end": lambda: images(1) + b"x",
    "lists in place of images": lambda: items(*[b'{"image":[%s]}' % b",".join([b"1"] * 1000)] * 255),
    "unknown members": lambda: items(*[b"{%s}" % b",".join(b'"k%d":1' % k for k in range(60))] * 255),
}


async def longest_stop_s(body: bytearray) -> float:
    """The longest time in which nothing else ran while a body was read as a request."""
    longest_s, last_s = 0.0, time.process_time()

    def look() -> None:
        nonlocal longest_s, last_s
        now_s = time.process_time()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s

    async def turn() -> None:
        while True:
            await asyncio.sleep(TURN_S)
            look()

    turning = asyncio.create_task(turn())
    with suppress(PlumblineError):
        document = await read_json(body, LIMITS)
        score_request(read_document(document, schemas.ScoreRequest, LIMITS), None)
    look()
    turning.cancel()
    return longest_s


def main() -> None:
    """Print a row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    print("| body of | size, MB | longest stop, ms |\n| --- | --- | --- |")
    for name in parser.parse_args().shapes:
        body = bytearray(SHAPES[name]())
        print(f"| {name} | {len(body) / 1e6:.1f} | {asyncio.run(longest_stop_s(body)) * 1000:.0f} |", flush=True)


if __name__ == "__main__":
    main()
