"""What tests of batchers share: limits that do not matter to them, and a wait for an encoder that has begun."""

import asyncio

from plumbline_serve.batching import BatchLimits

LIMITS = BatchLimits(max_queued=64, max_linger_s=0.0, is_adaptive=False)


async def entered(encoder) -> None:
    assert await asyncio.to_thread(encoder.entered.wait, 30)
    encoder.entered.clear()


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)
