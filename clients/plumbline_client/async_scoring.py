"""The methods of both asyncio clients, and their one retry loop."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Self, TypeVar, Unpack

from pydantic import BaseModel

from plumbline_client import asks
from plumbline_client.answers import (
    EmbedResponse,
    EncoderEntry,
    FilterResponse,
    RankResponse,
    ScorerEntry,
    ScoreResponse,
)
from plumbline_client.asks import Ask, Item, Threshold
from plumbline_client.calls import Call, Core
from plumbline_client.errors import CapacityError, DeadlineError, PlumblineClientError, TransportError
from plumbline_client.images import Image
from plumbline_client.options import CallOptions, Profile

T = TypeVar("T", bound=BaseModel)


class AsyncScoring(ABC):
    """An asyncio client; to be used on one event loop. Methods are those of `SyncScoring`, awaited."""

    def __init__(self, profile: Profile, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._core = Core(profile)
        self._sleep = sleep

    async def score(
        self, items: Sequence[Item], *, scorers: Sequence[str] | None = None, **options: Unpack[CallOptions]
    ) -> ScoreResponse:
        """Score items in one batch; see `SyncScoring.score`."""
        return await self._send(asks.Score(items, scorers), options)

    async def filter(
        self,
        items: Sequence[Item],
        policy: Sequence[Threshold],
        *,
        explain: bool = False,
        **options: Unpack[CallOptions],
    ) -> FilterResponse:
        """Accept or reject items by thresholds; see `SyncScoring.filter`."""
        return await self._send(asks.Filter(items, policy, explain), options)

    async def rank(
        self,
        query: str | Image,
        candidates: Sequence[Image] | Sequence[str],
        *,
        scorer: str | None = None,
        top_k: int | None = None,
        **options: Unpack[CallOptions],
    ) -> RankResponse:
        """Order images for a text, or texts for an image; see `SyncScoring.rank`."""
        return await self._send(asks.Rank(query, candidates, scorer, top_k), options)

    async def embed(
        self,
        inputs: Sequence[Image] | Sequence[str],
        *,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> EmbedResponse:
        """Make unit-norm vectors of images or texts; see `SyncScoring.embed`."""
        return await self._send(asks.Embed(inputs, scorer), options)

    async def scorers(self, **options: Unpack[CallOptions]) -> tuple[ScorerEntry, ...]:
        """List the loaded scorers."""
        return (await self._send(asks.ListScorers(), options)).scorers

    async def models(self, **options: Unpack[CallOptions]) -> tuple[EncoderEntry, ...]:
        """List the loaded encoders."""
        return (await self._send(asks.ListModels(), options)).models

    async def ready(self, **options: Unpack[CallOptions]) -> bool:
        """Ask once whether everything is loaded; False also where the service cannot be reached in time."""
        try:
            return (await self._attempt(asks.Ready(), self._core.begin(options))).is_ready
        except (CapacityError, TransportError, DeadlineError):
            return False

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def _attempt(self, ask: Ask[T], call: Call) -> T: ...

    async def _send(self, ask: Ask[T], options: CallOptions) -> T:
        call = self._core.begin(options)
        while True:
            try:
                answer = await self._attempt(ask, call)
            except PlumblineClientError as error:
                await self._sleep(call.wait_after(error))
            else:
                call.succeeded()
                return answer
