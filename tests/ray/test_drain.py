"""SIGTERM: what is under way is answered, what comes is refused, and the command ends with 0."""

import asyncio
import base64

import httpx
import pytest

from plumbline_serve.settings import Settings
from tests.services import PATIENT

pytestmark = pytest.mark.ray


async def test_requests_under_way_are_answered_before_the_service_stops(start, jpeg):
    service = start()
    images = {str(seed): {"b64": base64.b64encode(jpeg(seed)).decode()} for seed in range(64)}
    items = [{"image": str(i % 64), "text": f"a red circle number {i}"} for i in range(Settings().limits.max_items)]
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:
        under_way = asyncio.create_task(client.post("/v1/score", json={"images": images, "items": items, **PATIENT}))
        await started(client)
        stopped = asyncio.create_task(asyncio.to_thread(service.terminate))
        answer = await under_way
        assert answer.status_code == 200
        assert {result["status"] for result in answer.json()["results"]} == {"ok"}
    assert await stopped == 0


async def started(client: httpx.AsyncClient) -> None:
    """Wait until the service has begun to decode the request."""
    for _ in range(600):
        text = (await client.get("/metrics")).text
        if any(
            line.startswith("plumbline_batch_size_count") and not line.endswith(" 0.0") for line in text.split("\n")
        ):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the request was never begun")
