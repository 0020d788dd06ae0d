"""Threads carry their names where the system's own tools look for them."""

import sys
import threading
from pathlib import Path

import pytest

from plumbline_serve.messages import EmbedRequest, RawImage
from plumbline_serve.requests.embedding import embed
from plumbline_serve.scheduling.concurrency import NAME_BYTES, named_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def own_name() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("name", ["decode", "encode image", "encode of something with a long name"])
def test_the_system_knows_a_thread_by_its_name(name):
    with named_threads(1, name) as threads:
        assert threads.submit(own_name).result() == name[:NAME_BYTES]


def test_what_a_named_thread_starts_inherits_its_name():
    def start() -> str:
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(own_name()))
        thread.start()
        thread.join()
        return found[0]

    with named_threads(1, "encode image") as threads:
        assert threads.submit(start).result() == "encode image"


def test_the_caller_keeps_its_own_name():
    before = own_name()
    with named_threads(1, "decode") as threads:
        threads.submit(own_name).result()
    assert own_name() == before


async def test_an_encoder_runs_on_a_thread_named_after_its_kind(open_pipeline, scorers):
    pipeline = await open_pipeline()
    names: list[str] = []

    def encode(batch):
        names.append(own_name())
        return list(batch)

    for kind in ("image", "text"):
        getattr(scorers["product"], kind).encode = encode
    await embed(pipeline, EmbedRequest(texts=["a"]))
    await embed(pipeline, EmbedRequest(images=[RawImage(bytes(12), 2, 2)]))
    assert names == ["encode text", "encode image"]
