"""The methods of both blocking clients, and their one retry loop."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
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


class SyncScoring(ABC):
    """A blocking client; safe to share between threads.

    Every method takes `timeout_ms`, `priority`, `deterministic` and `request_id` (`CallOptions`) and may raise any
    error of `plumbline_client.errors`; what concerns one item stands in its result.
    """

    def __init__(self, core: Core, sleep: Callable[[float], None]) -> None:
        self._core = core
        self._sleep = sleep

    def score(
        self,
        items: Iterable[ItemLike],
        *,
        scorers: Iterable[str] | None = None,
        combine: Combinations | None = None,
        guards: Mapping[str, bool] | None = None,
        **options: Unpack[CallOptions],
    ) -> ScoreReply:
        """Score items.

        Args:
            items: At least one; more than a request may hold are sent in several. An `Image` object that several share
                is sent once with each.
            scorers: By id; None: every loaded scorer that an item allows.
            combine: Several scores as one, by the name that each has among the scores.
            guards: Have guards look at the images, with `views` and `explain` or, `{}`, without; None: they do not.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.

        Returns:
            Results in the order of the items.
        """
        return self._send(requests.ScoreRequest(items, scorers, combine, guards), options)

    def filter(
        self,
        items: Iterable[ItemLike],
        policy: Iterable[Threshold],
        *,
        combine: Combinations | None = None,
        explain: bool = False,
        **options: Unpack[CallOptions],
    ) -> FilterReply:
        """Accept or reject items by thresholds that must all hold, cheapest scorer first.

        Args:
            items: At least one.
            policy: At least one threshold.
            combine: By the name that a threshold gives for its scorer.
            explain: Whether items that are rejected already run through the other scorers too.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.

        Returns:
            Verdicts in the order of the items.
        """
        return self._send(requests.FilterRequest(items, policy, combine=combine, explain=explain), options)

    def rank(
        self,
        query: str | ImageLike,
        candidates: Iterable[ImageLike] | Iterable[str],
        *,
        scorer: str | None = None,
        combine: Combinations | None = None,
        top_k: int | None = None,
        **options: Unpack[CallOptions],
    ) -> RankReply:
        """Order images for a text, or texts for an image.

        Candidates of more than one request have no `probability`.

        Args:
            query: A text, or an image.
            candidates: Images where the query is a text, texts where it is an image.
            scorer: Or a combination; None: the only combination, else the first loaded scorer of an image and a text.
            combine: By the name that `scorer` may give.
            top_k: Places to answer; None: all.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.

        Returns:
            Best first, ties by index.
        """
        return self._send(requests.RankRequest(query, candidates, scorer=scorer, combine=combine, top_k=top_k), options)

    def select(
        self,
        text: str,
        images: Iterable[ImageLike],
        *,
        combine: Combinations | None = None,
        **options: Unpack[SelectOptions],
    ) -> SelectReply:
        """Choose one of N images for a text, and say what that is certain to gain.

        Args:
            text: What the image should show.
            images: What to choose from.
            combine: By the name that `scorer` may give.
            options: `scorer`, `correlation`, `correlation_interval`, `temperature`, `seed`; `timeout_ms`, `priority`,
                `deterministic`, `request_id`.

        Returns:
            The index of the chosen one, with all values.
        """
        chosen, call = split_options(options, SelectOptions)
        return self._send(requests.SelectRequest(text, images, chosen, combine), call)

    def embed(
        self,
        inputs: Iterable[ImageLike] | Iterable[str],
        *,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> EmbedReply:
        """Make unit-norm vectors of images or texts.

        Args:
            inputs: Either images or texts.
            scorer: Whose encoder to use; None: the first loaded scorer that has one for texts.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.

        Returns:
            Vectors in the order of the inputs.
        """
        return self._send(requests.EmbedRequest(inputs, scorer=scorer), options)

    def rewards(
        self,
        images: Iterable[ImageLike],
        prompts: str | Iterable[str] | None = None,
        *,
        scorer: str | None = None,
        combine: Combinations | None = None,
        **options: Unpack[CallOptions],
    ) -> Rewards:
        """Score images by one scorer, as trainers take it: an image that fails is NaN and not an error.

        Args:
            images: In a list, or an array of several.
            prompts: One for each, or one for all; None where the scorer takes no text.
            scorer: Or a combination; None: the only combination.
            combine: By the name that `scorer` may give.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.

        Returns:
            float32 `[N]` in the order of the images, with an error for each that is NaN.
        """
        request = RewardsRequest(images, prompts, scorer=scorer, combine=combine)
        return request.read(None if request.is_empty else self._send(request.scored, options))

    def scorers(self, **options: Unpack[CallOptions]) -> tuple[ScorerEntry, ...]:
        """List the scorers: those that are loaded, then the classifiers that the service keeps."""
        return self._send(requests.ListScorersRequest(), options).scorers

    def models(self, **options: Unpack[CallOptions]) -> tuple[EncoderEntry, ...]:
        """List the loaded encoders."""
        return self._send(requests.ListModelsRequest(), options).models

    def ready(self, **options: Unpack[CallOptions]) -> bool:
        """Ask once whether everything is loaded.

        Returns:
            False also where nothing answers yet; why stands in the log, at INFO.

        Raises:
            PlumblineClientError: What waiting does not change: something else answers there, TLS fails.
        """
        try:
            return self._attempt(requests.ReadinessRequest(), self._core.begin(options)).is_ready
        except UnexpectedReplyError:
            raise
        except (CapacityError, TransportError, DeadlineError) as error:
            log.info("not ready: %s", error.detail)
            return False

    def close(self) -> None:
        """Close the connections; no call can follow."""
        self._core.close()
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _disconnect(self) -> None: ...

    @abstractmethod
    def _attempt(self, request: Request[T], call: Call) -> T: ...

    def _send(self, request: Request[T], options: CallOptions) -> T:
        parts = Parts(request, self._core.begin(options))
        while (part := parts.pending) is not None:
            try:
                reply = self._attempt(part, parts.call)
            except PlumblineClientError as error:
                self._sleep(parts.wait_after(error))
            else:
                parts.answered(reply)
        return parts.joined()
