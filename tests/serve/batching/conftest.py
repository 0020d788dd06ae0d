"""What tests of batches share."""

import asyncio
import threading

import pytest

from plumbline_serve.batching import Batcher
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import LIMITS, entered


@pytest.fixture
async def gated(make_encoder, observer):
    """An encoder that is busy with one input until its gate opens, and its batcher."""
    encoder = make_encoder()
    encoder.gate = threading.Event()
    batcher = Batcher(encoder, LIMITS, observer)
    first = asyncio.create_task(batcher.encode([0.0], RequestContext()))
    await entered(encoder)
    yield encoder, batcher
    encoder.gate.set()
    await first
    await batcher.close()
