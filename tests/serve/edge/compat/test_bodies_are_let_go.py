"""What a request in another service's format brought is gone once it is read, and all of it once it has ended."""

import base64
import gc
import json
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from plumbline_serve.edge.compat.core import Asking
from plumbline_serve.memory.bytes_in_flight import Share
from plumbline_serve.messages import Base64Image, EncodedImage, ScoreRequest

WAIT_S = 30.0
HELD = (Share, Asking, Base64Image, EncodedImage, ScoreRequest)
IMAGE = b"hallo" * 1000
B64 = base64.b64encode(IMAGE).decode()


def json_body(document: Any) -> bytes:
    return json.dumps(document).encode()


def flow_factory(text: str) -> tuple[str, bytes]:
    return "/compute", json_body({"prompt": [text], "image": [B64]})


def unirl(text: str) -> tuple[str, bytes]:
    sample = {"history": [{"text": text, "image_b64": B64}], "required_rewards": ["sum"]}
    return "/score", json_body({"requests": [sample]})


def flow_grpo(text: str) -> tuple[str, bytes]:
    return "/", pickle.dumps({"images": [IMAGE], "prompts": [text], "metadata": {}})


def rerank(text: str) -> tuple[str, bytes]:
    return "/rerank", json_body({"query": text, "documents": [f"data:image/png;base64,{B64}"]})


FORMATS = [flow_factory, unirl, flow_grpo, rerank]


def held_now() -> list[Any]:
    return [each for each in gc.get_objects() if type(each) in HELD]


@pytest.fixture(autouse=True)
def others() -> Iterator[set[int]]:
    """What other tests hold for good; the collector rests meanwhile."""
    gc.collect()
    gc.disable()
    kept = held_now()
    yield {id(each) for each in kept}
    gc.enable()


def wait_until_nothing_is_held(edge: Any, others: set[int]) -> None:
    edge.service.received.clear()
    until = time.monotonic() + WAIT_S
    while held := [each for each in held_now() if id(each) not in others]:
        assert time.monotonic() < until, held
        del held
        time.sleep(0.01)


@pytest.mark.parametrize("text", ["hi", "raise overloaded", "crash"])
@pytest.mark.parametrize("make", FORMATS)
def test_a_request_is_gone_once_it_is_answered(rules: Any, others: set[int], make: Any, text: str) -> None:
    path, body = make(text)
    rules.http.post(path, content=body)
    wait_until_nothing_is_held(rules, others)


@pytest.mark.parametrize("make", FORMATS)
def test_a_refused_body_is_gone(rules: Any, others: set[int], make: Any) -> None:
    path, body = make("hi")
    rules.http.post(path, content=body[:-10])
    wait_until_nothing_is_held(rules, others)


@pytest.mark.parametrize("make", FORMATS)
def test_the_body_is_not_held_beside_what_was_read_of_it(rules: Any, others: set[int], make: Any) -> None:
    path, body = make("hang")

    def post() -> None:
        with suppress(httpx.TimeoutException):
            rules.http.post(path, content=body, timeout=1.0)

    posting = threading.Thread(target=post)
    posting.start()
    assert rules.service.hanging.acquire(timeout=WAIT_S)
    (asking,) = [each for each in held_now() if isinstance(each, Asking) and id(each) not in others]
    assert len(asking.body) == 0
    del asking
    assert rules.service.cancelled.acquire(timeout=WAIT_S)  # its caller has waited long enough
    posting.join()
    wait_until_nothing_is_held(rules, others)
