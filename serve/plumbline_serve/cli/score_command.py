"""`plumbline score`: files in, a table or the REST answer out; in this process or through a server."""

import asyncio
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from rich.console import Console
from rich.table import Table

from plumbline_client import Client, Image, PlumblineClientError
from plumbline_client import Item as ClientItem
from plumbline_models.core.errors import ImageUndecodableError, PlumblineError
from plumbline_serve.assembly import assembled, make_scorers
from plumbline_serve.checks import Checks
from plumbline_serve.edge.problems import problem
from plumbline_serve.edge.rest_replies import score_document
from plumbline_serve.messages import BrokenImage, EncodedImage, Item, ScoreRequest
from plumbline_serve.settings import Settings

OK, SOME_FAILED = 0, 1
CHUNK = 32  # files a request: enough to fill a batch, few enough to keep memory low
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command was given."""

    images: Sequence[Path]
    text: str | None
    scorers: Sequence[str] | None


def in_process(ask: Ask, settings: Settings) -> Document:
    """Score without a server: load, score, forget.

    Raises:
        PlumblineError: The configuration or the request as a whole is wrong.
    """
    return asyncio.run(_in_process(ask, settings))


async def _in_process(ask: Ask, settings: Settings) -> Document:
    scorers = make_scorers(settings)
    if ask.scorers is not None:
        chosen = Checks(settings.limits, scorers).scorers(ask.scorers) or []
        scorers = {scorer.info.name: scorer for scorer in chosen}
    chunks = _chunks(ask.images, min(CHUNK, settings.limits.max_items))
    async with assembled(settings, scorers) as assembly:
        return _joined([score_document(await assembly.service.score(_request(ask, files))) for files in chunks])


def through_server(ask: Ask, url: str) -> Document:
    """Score through a running service.

    Raises:
        PlumblineError: The service cannot be reached or refuses the request as a whole.
    """
    try:
        with Client(url) as client:
            documents = [_ask_server(client, ask, files) for files in _chunks(ask.images, CHUNK)]
    except PlumblineClientError as error:
        raise PlumblineError(str(error)) from error
    return _joined(documents)


def show(document: Document, *, as_json: bool) -> int:
    """Print the answer; the exit status says whether every item was scored."""
    if as_json:
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        _print_table(document)
    is_complete = all(result["status"] == "ok" for result in document["results"])
    return OK if is_complete else SOME_FAILED


def _request(ask: Ask, files: Iterable[Path]) -> ScoreRequest:
    items = [Item(id=str(path), image=_source(path), text=ask.text) for path in files]
    return ScoreRequest(items, scorers=ask.scorers)


def _source(path: Path) -> EncodedImage | BrokenImage:
    try:
        return EncodedImage(path.read_bytes())
    except OSError:
        return BrokenImage(ImageUndecodableError(f"The file {path} cannot be read."))


def _ask_server(client: Client, ask: Ask, files: Sequence[Path]) -> Document:
    sources = {path: _source(path) for path in files}
    found = {path: source.data for path, source in sources.items() if isinstance(source, EncodedImage)}
    failed = {path: _failure(path, source.error) for path, source in sources.items() if isinstance(source, BrokenImage)}
    items = [ClientItem(id=str(path), image=Image.data(data), text=ask.text) for path, data in found.items()]
    scored: Document = {"results": []}
    if items:
        scored = client.score(items, scorers=ask.scorers).model_dump(mode="json", exclude_none=True)
    results = dict(zip(found, scored["results"], strict=True)) | failed
    return scored | {"results": [results[path] for path in files]}


def _failure(path: Path, error: PlumblineError) -> Document:
    return {"id": str(path), "status": "error", "error": problem(error)}


def _joined(documents: Sequence[Document]) -> Document:
    timings = [document["timing_ms"] for document in documents if "timing_ms" in document]
    return {
        "request_id": uuid.uuid4().hex,
        "results": [result for document in documents for result in document["results"]],
        "timing_ms": {stage: sum(timing[stage] for timing in timings) for stage in (timings[0] if timings else ())},
    }


def _chunks(files: Sequence[Path], size: int) -> Iterator[list[Path]]:
    waiting = iter(files)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _print_table(document: Document) -> None:
    results = document["results"]
    names = list(dict.fromkeys(name for result in results for name in result.get("scores", {})))
    table = Table("image", *names, "note")
    for result in results:
        scores = result.get("scores", {})
        values = [f"{scores[n]['value']:.4g}" if "value" in scores.get(n, {}) else "—" for n in names]
        notes = [result["error"]["detail"]] if "error" in result else []
        notes += [f"{n}: {scores[n]['error']['detail']}" for n in names if "error" in scores.get(n, {})]
        notes += [f"misaligned: {', '.join(words)}" for n in names if (words := _misaligned(scores.get(n, {})))]
        table.add_row(result["id"], *values, "; ".join(notes))
    Console().print(table)


def _misaligned(score: Document) -> list[str]:
    return [word["text"] for word in score.get("words", ()) if word["misaligned"]]
