"""Rows scored by a running service: by streams of gRPC, or by REST requests side by side.

What a stream left without a reply is sent again.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from plumbline_client import (
    Batch,
    Client,
    ClientOptions,
    ConnectError,
    GrpcClient,
    InvalidRequestError,
    Item,
    PlumblineClientError,
    ProblemError,
    Question,
    RetryPolicy,
    ScoreReply,
    Tls,
)
from plumbline_models.core.errors import PlumblineError, UnknownScorerError
from plumbline_serve.offline.facts import Described, RunFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import ChunkBounds, Document, Scored, joined, readable
from plumbline_serve.offline.runners.server_embedding import Embedding, image_of

log = logging.getLogger(__name__)

IN_FLIGHT = 8
WINDOW = 32
"""Chunks of one stream; what got no reply is sent again before the next."""
MAX_FILE_BYTES = 2**30  # how large is too large is the service's to say
TIMEOUT_MS = 600_000.0  # patience with a server that computes large networks on a CPU
STREAM_MS = TIMEOUT_MS * (1 + WINDOW / IN_FLIGHT)
"""Of one stream, whose batches have that time each: a server whose machine is gone is given up at last."""
RETRY = RetryPolicy(
    max_attempts=16, base_delay_s=0.2, max_delay_s=15.0, budget=1000, refill=1.0
)  # a server that restarts is back within minutes
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    address: str
    """Of gRPC, `host:9000` or with TLS `grpcs://host:9000`; or of REST, `http://host:8000` or `https://host:8000`."""
    api_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """Authorities that its certificate may come from, where they are not public."""

    def client(self, options: ClientOptions) -> Client | GrpcClient:
        """A client of it, by the wire that its address is of.

        Raises:
            UsageError: The address is of neither.
        """
        if self.address.strip().startswith(("http://", "https://")):
            return Client(self.address, **options)
        return GrpcClient(self.address, **options)


class _Window:
    """Some chunks of the source, and what became of each.

    gRPC takes them on a thread of its own, which may be at it still when the stream is over.
    """

    def __init__(self, source: Iterator[list[Row]]) -> None:
        self.chunks: list[list[Row]] = []
        self.results: dict[int, list[Document]] = {}
        self._source = source
        self._lock = threading.Lock()
        self._is_open = True

    def chunks_to_send(self) -> Iterator[tuple[int, list[Row]]]:
        """Chunks by their numbers, from 0."""
        for number in range(WINDOW):
            with self._lock:
                chunk = next(self._source, []) if self._is_open else []
                if not chunk:
                    return
                self.chunks.append(chunk)
            if readable(chunk):
                yield number, chunk

    def close(self) -> None:
        """Take nothing further from the source."""
        with self._lock:
            self._is_open = False


class ServerRunner:
    """Sends chunks, and sends again what got no reply; a context manager.

    Args:
        server: Which.
        scorers: By name; None: all that are loaded there.
        makes_members: Whether rows come back as members of a set as well.

    Raises:
        PlumblineError: When it is entered: the service cannot be reached, has no such scorer, or gives no encodings
            where members are asked for.
    """

    def __init__(self, server: Server, scorers: Sequence[str] | None = None, *, makes_members: bool = False) -> None:
        self._names = scorers
        self._makes_members = makes_members
        self._embedding: Embedding | None = None
        self._facts = RunFacts()
        self._bounds = ChunkBounds(MAX_FILE_BYTES)
        tls = None if server.ca is None else Tls(ca=server.ca)
        self._options: ClientOptions = {
            "api_key": server.api_key, "timeout_ms": TIMEOUT_MS, "priority": "batch", "tls": tls,
        }  # fmt: skip
        self._server = server
        try:
            patient: ClientOptions = {**self._options, "retry": RETRY}
            self._client = server.client(patient)
        except PlumblineClientError as error:
            raise PlumblineError(error.detail) from error

    def __enter__(self) -> Self:
        try:
            self._facts = self._described()
            if self._makes_members:
                self._embedding = Embedding.of(self._client, self._names)
                self._facts = self._facts.model_copy(update={"set_encoder": self._embedding.encoder})
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def facts(self) -> RunFacts:
        """As `Runner.facts`."""
        return self._facts

    def score_from(self, reader: Reader, start: int) -> Iterator[Scored]:
        """As `Runner.score_from`."""
        return self.score(reader.rows(start))

    def score(self, rows: Iterable[Row]) -> Iterator[Scored]:
        """The results of rows, in their order, whatever the order of replies.

        Args:
            rows: Read as results are taken.
        """
        source = self._bounds.cut(rows)
        while True:
            window = _Window(source)
            try:
                self._send(window)
                for number, chunk in enumerate(window.chunks):
                    if number not in window.results and readable(chunk):
                        window.results[number] = self._sent_alone(readable(chunk))
                    results = window.results.get(number, ())
                    members = self._embedding.members(readable(chunk), results) if self._embedding else ()
                    yield from joined(chunk, results, members)
            except PlumblineClientError as error:
                raise PlumblineError(error.detail) from error
            finally:
                window.close()
            if not window.chunks:
                return

    def _described(self) -> RunFacts:
        """What the service loaded; one that is not there is said soon, by a client with less patience."""
        try:
            with self._server.client(self._options) as client:
                facts = Described(client.scorers(), client.models(), self._names).facts()
        except PlumblineClientError as error:
            raise PlumblineError(error.detail) from error
        if missing := [name for name in self._names or () if name not in facts.scorers]:
            raise UnknownScorerError(f"The service has no scorer {missing[0]!r}.")
        return facts

    def _send(self, window: _Window) -> None:
        """Send the chunks of a window, several at a time."""
        if isinstance(self._client, GrpcClient):
            self._stream(self._client, window)
            return
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            sent = {
                number: threads.submit(self._sent_alone, readable(rows)) for number, rows in window.chunks_to_send()
            }
            try:
                window.results |= {number: each.result() for number, each in sent.items()}
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _stream(self, client: GrpcClient, window: _Window) -> None:
        """Send the chunks of a window; where the stream breaks or there is no room, some are without results."""
        batches = (
            Batch([_item(row) for row in readable(chunk)], self._names, correlation_id=str(number))
            for number, chunk in window.chunks_to_send()
        )
        try:
            for reply in client.score_stream(batches, max_in_flight=IN_FLIGHT, timeout_ms=STREAM_MS):
                number = int(reply.correlation_id)
                rows = readable(window.chunks[number])
                if reply.error is None:
                    window.results[number] = _documents(reply.unwrap())
                elif isinstance(reply.error, InvalidRequestError):
                    window.results[number] = self._in_parts(rows, reply.error)
                elif not reply.error.is_retryable:
                    raise reply.error
        except ConnectError as error:
            log.warning("the stream broke, and goes on: %s", error.detail)
        except ProblemError as error:
            if error.problem.status != _TOO_LARGE:  # gRPC itself ends a stream with a message that is too large
                raise
        finally:
            window.close()

    def _sent_alone(self, rows: Sequence[Row]) -> list[Document]:
        """Send rows in a call of their own, which is retried."""
        try:
            return _documents(self._client.score([_item(row) for row in rows], scorers=self._names))
        except InvalidRequestError as error:
            return self._in_parts(rows, error)

    def _in_parts(self, rows: Sequence[Row], error: InvalidRequestError) -> list[Document]:
        """Send what is refused as a whole in halves; a row that is refused alone fails alone."""
        if len(rows) == 1:
            said = error.problem.model_dump(mode="json", exclude_defaults=True, exclude={"request_id"})
            return [{"id": str(rows[0].number), "status": "error", "error": said}]
        middle = len(rows) // 2
        if error.problem.status == _TOO_LARGE:
            self._bounds.max_rows = max(1, min(self._bounds.max_rows, middle))
        return [*self._sent_alone(rows[:middle]), *self._sent_alone(rows[middle:])]


def _documents(reply: ScoreReply) -> list[Document]:
    results: list[Document] = reply.model_dump(mode="json", exclude_unset=True)["results"]
    return results


def _item(row: Row) -> Item:
    return Item(
        image_of(row.image),
        row.text,
        str(row.number),
        references=row.references,
        reference_image=image_of(row.reference_image),
        phrases=row.phrases,
        frames=[image for each in row.frames if (image := image_of(each)) is not None],
        pool=row.pool,
        questions=[Question(each.text, each.expect, each.tag, each.depends_on) for each in row.questions],
    )
