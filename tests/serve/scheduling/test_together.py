"""What runs side by side ends as one, and leaves nothing behind."""

import asyncio
import gc

import pytest

from plumbline_models.core.errors import OverloadedError
from plumbline_serve.scheduling.concurrency import together


async def test_of_two_that_fail_at_once_one_is_raised_and_the_other_is_no_fault():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fail(sentence: str) -> None:
        raise OverloadedError(sentence)

    with pytest.raises(OverloadedError, match="first"):
        await together(fail(sentence) for sentence in ("first", "second"))
    gc.collect()
    assert complaints == []
