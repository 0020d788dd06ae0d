"""What large requests leave goes back to the system, and not at every request."""

import asyncio
import ctypes
import os
import platform
import threading

import pytest

from loadtests.service.memory import MIB, anonymous_mib
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.memory.free_memory import LEAST_BYTES, FreeMemory
from plumbline_serve.settings import Limits

WAIT_S = 30.0
NUM_BLOCKS, BLOCK_BYTES = 2000, 100_000


async def test_it_is_given_back_once_a_good_deal_was_let_go_of() -> None:
    given_back = threading.Semaphore(0)
    memory = FreeMemory(given_back.release, period_s=0.0)
    budget = BytesInFlight(Limits(), free_memory=memory)
    for _ in range(3):
        with budget.share() as share:
            share.take(LEAST_BYTES // 4)
    await asyncio.sleep(0.01)
    assert not given_back.acquire(blocking=False)
    for _ in range(2):  # the second time within the period
        with budget.share() as share:
            share.take(LEAST_BYTES // 2)
    assert await asyncio.to_thread(given_back.acquire, timeout=WAIT_S)
    await asyncio.sleep(0.01)
    assert not given_back.acquire(blocking=False)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have no malloc_trim")
async def test_free_blocks_below_one_in_use_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(NUM_BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for block in blocks[:-1]:
        libc.free(ctypes.c_void_p(block))
    kept = anonymous_mib(os.getpid())
    memory = FreeMemory(period_s=0.0)
    memory.let_go(LEAST_BYTES)
    for _ in range(int(WAIT_S * 100)):
        await asyncio.sleep(0.01)
        if anonymous_mib(os.getpid()) < kept - NUM_BLOCKS * BLOCK_BYTES / MIB / 2:
            break
    else:
        pytest.fail("nothing was given back")
    libc.free(ctypes.c_void_p(blocks[-1]))
