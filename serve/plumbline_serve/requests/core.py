"""One configuration's way of answering, and the requests under way in it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from plumbline_models.core.errors import SupersededError
from plumbline_serve.batching import Compute
from plumbline_serve.messages.sets import AnyReply, AnyRequest, errors_of
from plumbline_serve.requests.pipeline import Pipeline

RequestT = TypeVar("RequestT", bound=AnyRequest)
ReplyT = TypeVar("ReplyT", bound=AnyReply)


class Core:
    """A pipeline over encoders, until another configuration takes its place.

    Args:
        pipeline: Answers requests.
        compute: Says what is loaded, and whether it works.
    """

    def __init__(self, pipeline: Pipeline, compute: Compute) -> None:
        self.pipeline = pipeline
        self.compute = compute
        self.num_active = 0
        """Requests under way."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def answer(
        self, request: RequestT, how: Callable[[Pipeline, RequestT], Awaitable[ReplyT]]
    ) -> ReplyT | SupersededError:
        """The reply, or that its encoders run a newer configuration, so that the request has to be made again.

        Args:
            request: As the caller sent it.
            how: Has the pipeline answer it.
        """
        self.num_active += 1
        self._idle.clear()
        try:
            reply = await how(self.pipeline, request)
        except SupersededError as error:
            return error
        finally:
            self.num_active -= 1
            if not self.num_active:
                self._idle.set()
        return next((error for _, error in errors_of(reply) if isinstance(error, SupersededError)), reply)

    async def until_idle(self, timeout_s: float) -> int:
        """Wait for what is under way.

        Returns:
            Requests still under way when the time was up; 0 if all were answered.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self.num_active
