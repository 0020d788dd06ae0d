"""Callers who check every answer: what a fault costs those who use the client with its retries.

Over REST and gRPC by turns, in a closed loop, each with a client of its own. Their images are new to the service, by a
comment, and show what was scored before anything was broken; batches of other sizes add in other orders, hence the
tolerance.
"""

import itertools
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from loadtests.service.images import commented, image_of
from plumbline_client import (
    Client,
    ClientOptions,
    GrpcClient,
    Image,
    Item,
    PlumblineClientError,
    ProblemError,
    RetryPolicy,
)

RETRY = RetryPolicy(max_attempts=1000, base_delay_s=0.1, max_delay_s=1.0, budget=1_000_000)
CALL_TIMEOUT_MS = 180_000.0
NUM_SAMPLES = 12
TOLERANCE = 5e-3  # of scores in bf16, alone and in company
RECOVERED = 0.5  # of the rate before
WINDOW_S = 1.0
SHOWN = 100  # characters of an error
TEXTS = ("a red circle", "two blue squares", "a small green star")
Scores = Mapping[str, float | None]


@dataclass
class Counts:
    """What callers got, as they got it; several threads write."""

    answered_at: list[float] = field(default_factory=list)
    """Seconds of the monotonic clock."""
    wrong: list[str] = field(default_factory=list)
    """Scores that are not those of before."""
    failed: Counter[str] = field(default_factory=Counter)
    """Items that were answered with an error of their own, by its code."""
    lost: Counter[str] = field(default_factory=Counter)
    """Calls that failed for good, by their error."""
    lost_in_full: list[str] = field(default_factory=list)
    """The same, all that each was told."""
    retried: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by their error."""


class _OverError(Exception):
    """Nobody waits for the next attempt any more."""


class _ItemError(Exception):
    """An item's own error, by its code."""


class CheckedLoad:
    """Callers who ask while the context lasts.

    Args:
        url: Of REST.
        target: Of gRPC.
        num_callers: At least two.
    """

    def __init__(self, url: str, target: str, *, num_callers: int = 4) -> None:
        self.counts = Counts()
        self._files = [image_of(seed) for seed in range(NUM_SAMPLES)]
        self._clients = [self._client(url, target, number) for number in range(num_callers)]
        self._expected: Sequence[Scores] = []
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._call, args=(client, number)) for number, client in enumerate(self._clients)
        ]

    def __enter__(self) -> Self:
        self._expected = [self._ask(self._clients[0], number) for number in range(NUM_SAMPLES)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def wait_for(self, num_further: int) -> None:
        """Wait until so many further answers have come."""
        with self._changed:
            wanted = len(self.counts.answered_at) + num_further
            self._changed.wait_for(lambda: len(self.counts.answered_at) >= wanted or self.counts.lost)

    def _call(self, client: Client | GrpcClient, first: int) -> None:
        for index in itertools.count(first):
            if self._is_over.is_set():
                return
            number = index % NUM_SAMPLES
            try:
                wrong = _difference(self._ask(client, number), self._expected[number])
            except _OverError:
                return
            except _ItemError as error:
                self._note(self.counts.failed, str(error))
            except PlumblineClientError as error:
                self.counts.lost_in_full.append(in_full(error))
                self._note(self.counts.lost, kind_of(error))
            else:
                with self._changed:
                    self.counts.answered_at.append(time.monotonic())
                    self.counts.wrong += [wrong] if wrong else []
                    self._changed.notify_all()

    def _client(self, url: str, target: str, number: int) -> Client | GrpcClient:
        options: ClientOptions = {"retry": RETRY, "timeout_ms": CALL_TIMEOUT_MS}
        client: Client | GrpcClient
        if number % 2:
            client = Client(url, sleep=self._sleep, **options)
        else:
            client = GrpcClient(target, sleep=self._sleep, **options)
        attempt = client._attempt  # noqa: SLF001 - nothing else sees the errors that are retried

        def counted(*arguments: Any) -> Any:
            try:
                return attempt(*arguments)
            except PlumblineClientError as error:
                self._note(self.counts.retried, kind_of(error))
                raise

        client._attempt = counted  # type: ignore[assignment, method-assign]  # noqa: SLF001
        return client

    def _ask(self, client: Client | GrpcClient, number: int) -> Scores:
        image = Image.data(commented(self._files[number], secrets.token_bytes(16)))
        (result,) = client.score([Item(image=image, text=TEXTS[number % len(TEXTS)])]).results
        for problem in (result.error, *(score.error for score in result.scores.values())):
            if problem is not None:
                raise _ItemError(problem.code)
        return {name: score.value for name, score in result.scores.items()}

    def _note(self, counter: Counter[str], kind: str) -> None:
        with self._changed:
            counter[kind] += 1
            self._changed.notify_all()

    def _sleep(self, seconds: float) -> None:
        if self._is_over.wait(min(seconds, RETRY.max_delay_s)):
            raise _OverError


def kind_of(error: PlumblineClientError) -> str:
    """A problem's code, or what the transport says, without addresses."""
    if isinstance(error, ProblemError):
        return error.code
    return re.sub(r"(http://|ipv4:)?127\.0\.0\.1:\d+ ?", "", f"{type(error).__name__}: {error.detail}")[:SHOWN]


def in_full(error: PlumblineClientError) -> str:
    """All that a call was told: the client's error, and the transport's that it was made of."""
    told = error.problem.model_dump(exclude_none=True) if isinstance(error, ProblemError) else error.detail
    return f"{type(error).__name__} {told!r} from {error.__cause__!r}"


def rate_per_s(answered_at: Sequence[float], begin: float, end: float) -> float:
    """Answers per second.

    Args:
        answered_at: When each came.
        begin: On the same clock.
        end: On the same clock.
    """
    return sum(begin <= at < end for at in answered_at) / max(end - begin, 1e-9)


def away_s(answered_at: Sequence[float], fault_at: float, *, before_s: float) -> float:
    """Seconds from a fault until callers had at least half of the rate before, for good.

    Args:
        answered_at: When each answer came; the last one ends what is looked at.
        fault_at: On the same clock.
        before_s: Seconds before the fault that the rate is taken from.
    """
    wanted = RECOVERED * rate_per_s(answered_at, fault_at - before_s, fault_at)
    num_windows = int((max(answered_at) - fault_at) / WINDOW_S)
    begins = [fault_at + number * WINDOW_S for number in range(num_windows)]
    poor = [begin for begin in begins if rate_per_s(answered_at, begin, begin + WINDOW_S) < wanted]
    return max(poor) + WINDOW_S - fault_at if poor else 0.0


def _difference(found: Scores, expected: Scores) -> str:
    """Empty where the scores are those that were expected."""
    if found.keys() == expected.keys():
        pairs = [(found[name], expected[name]) for name in found]
        if all(a is not None and b is not None and abs(a - b) <= TOLERANCE for a, b in pairs):
            return ""
    return f"{dict(found)} in place of {dict(expected)}"
