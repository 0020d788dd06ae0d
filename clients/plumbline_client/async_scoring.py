"""The methods of both asyncio clients, and their one retry loop."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel
from typing_extensions import Self, Unpack

from plumbline_client import requests
from plumbline_client.calls import Call, Core
from plumbline_client.errors import (
    CapacityError,
    DeadlineError,
    PlumblineClientError,
    TransportError,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_client.images import ImageLike
from plumbline_client.items import Combinations, ItemLike, Threshold
from plumbline_client.options import CallOptions, SelectOptions, split_options
from plumbline_client.parts import Parts
from plumbline_client.replies import (
    EmbedReply,
    EncoderEntry,
    FilterReply,
    RankReply,
    ScorerEntry,
    ScoreReply,
    SelectReply,
)
from plumbline_client.requests import Request
from plumbline_client.rewards import Rewards, RewardsRequest

T = TypeVar("T", bound=BaseModel)
log = logging.getLogger("plumbline_client")


class AsyncScoring(ABC):
    """An asyncio client; to be used on one event loop. Methods are those of `SyncScoring`, awaited."""

    def __init__(self, core: Core, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._core = core
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None

    async def score(
        self,
        items: Iterable[ItemLike],
        *,
        scorers: Iterable[str] | None = None,
        combine: Combinations | None = None,
        guards: Mapping[str, bool] | None = None,
        **options: Unpack[CallOptions],
    ) -> ScoreReply:
        """Score items in one batch; see `SyncScoring.score`."""
        return await self._send(requests.ScoreRequest(items, scorers, combine, guards), options)

    async def filter(
        self,
        items: Iterable[ItemLike],
        policy: Iterable[Threshold],
        *,
        combine: Combinations | None = None,
        explain: bool = False,
        **options: Unpack[CallOptions],
    ) -> FilterReply:
        """Accept or reject items by thresholds; see `SyncScoring.filter`."""
        return await self._send(requests.FilterRequest(items, policy, combine=combine, explain=explain), options)

    async def rank(
        self,
        query: str | ImageLike,
        candidates: Iterable[ImageLike] | Iterable[str],
        *,
        scorer: str | None = None,
        combine: Combinations | None = None,
        top_k: int | None = None,
        **options: Unpack[CallOptions],
    ) -> RankReply:
        """Order images for a text, or texts for an image; see `SyncScoring.rank`."""
        return await self._send(
            requests.RankRequest(query, candidates, scorer=scorer, combine=combine, top_k=top_k), options
        )

    async def select(
        self,
        text: str,
        images: Iterable[ImageLike],
        *,
        combine: Combinations | None = None,
        **options: Unpack[SelectOptions],
    ) -> SelectReply:
        """Choose one of N images for a text; see `SyncScoring.select`."""
        chosen, call = split_options(options, SelectOptions)
        return await self._send(requests.SelectRequest(text, images, chosen, combine), call)

    async def embed(
        self,
        inputs: Iterable[ImageLike] | Iterable[str],
        *,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> EmbedReply:
        """Make unit-norm vectors of images or texts; see `SyncScoring.embed`."""
        return await self._send(requests.EmbedRequest(inputs, scorer=scorer), options)

    async def rewards(
        self,
        images: Iterable[ImageLike],
        prompts: str | Iterable[str] | None = None,
        *,
        scorer: str | None = None,
        combine: Combinations | None = None,
        **options: Unpack[CallOptions],
    ) -> Rewards:
        """Score images by one scorer, as trainers take it; see `SyncScoring.rewards`."""
        request = RewardsRequest(images, prompts, scorer=scorer, combine=combine)
        return request.read(None if request.is_empty else await self._send(request.scored, options))

    async def scorers(self, **options: Unpack[CallOptions]) -> tuple[ScorerEntry, ...]:
        """List the scorers: those that are loaded, then the classifiers that the service keeps."""
        return (await self._send(requests.ListScorersRequest(), options)).scorers

    async def models(self, **options: Unpack[CallOptions]) -> tuple[EncoderEntry, ...]:
        """List the loaded encoders."""
        return (await self._send(requests.ListModelsRequest(), options)).models

    async def ready(self, **options: Unpack[CallOptions]) -> bool:
        """Ask once whether everything is loaded.

        Returns:
            False also where nothing answers yet; why stands in the log, at INFO.

        Raises:
            PlumblineClientError: What waiting does not change: something else answers there, TLS fails.
        """
        try:
            return (await self._attempt(requests.ReadinessRequest(), self._begin(options))).is_ready
        except UnexpectedReplyError:
            raise
        except (CapacityError, TransportError, DeadlineError) as error:
            log.info("not ready: %s", error.detail)
            return False

    async def close(self) -> None:
        """Close the connections; no call can follow."""
        self._core.close()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def _disconnect(self) -> None: ...

    @abstractmethod
    async def _attempt(self, request: Request[T], call: Call) -> T: ...

    def _begin(self, options: CallOptions) -> Call:
        call = self._core.begin(options)
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            raise UsageError("An asyncio client belongs to the event loop of its first call; make one for this loop.")
        self._loop = loop
        return call

    async def _send(self, request: Request[T], options: CallOptions) -> T:
        parts = Parts(request, self._begin(options))
        while (part := parts.pending) is not None:
            try:
                reply = await self._attempt(part, parts.call)
            except PlumblineClientError as error:
                await self._sleep(parts.wait_after(error))
            else:
                parts.answered(reply)
        return parts.joined()
