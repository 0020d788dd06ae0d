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
from plumbline_serve.assembly import assemble, local_compute, make_scorers
from plumbline_serve.edge.rest_replies import score_document
from plumbline_serve.messages import BrokenImage, EncodedImage, ImageSource, Item, ScoreRequest
from plumbline_serve.metrics import Instruments
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
        scorers = {name: scorer for name, scorer in scorers.items() if name in ask.scorers} or scorers
    instruments = Instruments()
    compute = local_compute(settings, scorers.values(), instruments)
    service = assemble(settings, scorers, compute=compute, instruments=instruments).service
    await compute.start()
    service.is_loaded = True
    try:
        chunks = _chunks(ask.images, min(CHUNK, settings.limits.max_items))
        return _joined([score_document(await service.score(_request(ask, files))) for files in chunks])
    finally:
        await compute.close()


def through_server(ask: Ask, url: str) -> Document:
    """Score through a running service.

    Raises:
        PlumblineError: The service cannot be reached or refuses the request as a whole.
    """
    documents: list[Document] = []
    try:
        with Client(url) as client:
            for files in _chunks(ask.images, CHUNK):
                sound = [path for path in files if path.is_file()]
                items = [ClientItem(id=str(path), image=Image.file(path), text=ask.text) for path in sound]
                answer = client.score(items, scorers=ask.scorers) if items else None
                scored = answer.model_dump(mode="json", exclude_none=True) if answer else {"results": []}
                documents.append(_with_missing(scored, files))
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


def _source(path: Path) -> ImageSource:
    try:
        return EncodedImage(path.read_bytes())
    except OSError:
        return BrokenImage(_unreadable(path))


def _unreadable(path: Path) -> ImageUndecodableError:
    return ImageUndecodableError(f"The file {path} cannot be read.")


def _with_missing(document: Document, files: Sequence[Path]) -> Document:
    """Put an error in the place of each file that is not there."""
    found = iter(document["results"])
    results = [next(found) if path.is_file() else _missing_result(path) for path in files]
    return document | {"results": results}


def _missing_result(path: Path) -> Document:
    error = _unreadable(path)
    problem = {"title": error.title, "status": error.status, "code": error.code, "detail": error.detail}
    return {"id": str(path), "status": "error", "error": problem}


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
