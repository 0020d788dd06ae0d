"""A service that is sent hostile requests for a while: what its process holds before and after, as JSON.

    python -m tests.fuzz.memory 600 1800

sends 600 requests, which fill what is bounded, and then 1800 more, whose memory must come back.
"""

import ctypes
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from plumbline_wire.v1 import scoring_pb2 as pb
from tests.fuzz.inputs import sound_images
from tests.fuzz.served import LIMITS, Served, opened

Send = Callable[[Served, random.Random], int]
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
_PART = b'--b\r\ncontent-disposition: form-data; name="%b"; filename="a"\r\n\r\n%b\r\n'


def main() -> None:
    """Send requests twice, and print what the process holds each time."""
    num_before, num_after = int(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(7)  # noqa: S311 - the same requests in every run
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as served:
        _send(served, chance, num_before)
        before = _resident_bytes()
        num_bytes = _send(served, chance, num_after)
        print(json.dumps({"before": before, "after": _resident_bytes(), "sent": num_bytes}))


def _send(served: Served, chance: random.Random, num_requests: int) -> int:
    """How many bytes were sent."""
    return sum(chance.choice(KINDS)(served, chance) for _ in range(num_requests))


def _resident_bytes() -> int:
    """What the process holds once the allocator has given back what it can."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) * 1024


def _changed_image(chance: random.Random) -> bytes:
    data = bytearray(chance.choice(sound_images()))
    for _ in range(chance.randint(0, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randint(1, len(data))] if chance.random() < 0.3 else data)


def _form(document: bytes, parts: Iterator[bytes]) -> bytes:
    pieces = [_PART % (b"request", document), *(_PART % (b"part-%d" % index, data) for index, data in enumerate(parts))]
    return b"".join([*pieces, b"--b--\r\n"])


def _changed_images(served: Served, chance: random.Random) -> int:
    items = [{"image": {"part": f"part-{index}"}, "text": "a red circle"} for index in range(8)]
    body = _form(json.dumps({"items": items}).encode(), (_changed_image(chance) for _ in items))
    assert served.rest("POST", "/v1/score", body, FORM).status_code == 200
    return len(body)


def _large_parts(served: Served, chance: random.Random) -> int:
    items = [{"image": {"part": f"part-{index}"}} for index in range(8)]
    body = _form(json.dumps({"items": items}).encode(), (chance.randbytes(110_000) for _ in items))
    assert served.rest("POST", "/v1/score", body, FORM).status_code == 200
    return len(body)


def _too_large(served: Served, chance: random.Random) -> int:
    body = chance.randbytes(int(LIMITS.max_form_bytes) + 1)
    assert served.rest("POST", "/v1/score", body, chance.choice((JSON, FORM))).status_code == 413
    return len(body)


def _broken_form(served: Served, chance: random.Random) -> int:
    body = _form(b"{}", iter([chance.randbytes(500_000)]))[: chance.randrange(500_000)]
    assert served.rest("POST", "/v1/score", body, FORM).status_code == 400
    return len(body)


def _deep_json(served: Served, chance: random.Random) -> int:
    body = b'{"items":' + b"[" * chance.randrange(1, 400_000)
    assert served.rest("POST", "/v1/score", body, JSON).status_code in {400, 413}  # not closed, or more than is read
    return len(body)


def _wide_json(served: Served, chance: random.Random) -> int:
    members = ",".join(f'"{index}":{index}' for index in range(chance.randrange(50_000)))
    body = f'{{"items":[{{"image":{{{members}}}}}]}}'.encode()
    assert 400 <= served.rest("POST", "/v1/score", body, JSON).status_code < 500
    return len(body)


def _message(served: Served, chance: random.Random) -> int:
    images = [pb.ImageSource(data=_changed_image(chance)) for _ in range(4)]
    images += [pb.ImageSource(raw=pb.RawImage(data=chance.randbytes(chance.randrange(750_000)), height=500, width=500))]
    request = pb.ScoreRequest(items=[pb.Item(image=image, text="a red circle") for image in images])
    assert len(served.rpc("Score", request).results) == len(images)
    return request.ByteSize()


KINDS: tuple[Send, ...] = (
    _changed_images, _large_parts, _too_large, _broken_form, _deep_json, _wide_json, _message,
)  # fmt: skip

if __name__ == "__main__":
    main()
