"""`plumbline score --server URL`: the client library does the work."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline_client import (
    Client,
    Image,
    Item,
    PlumblineClientError,
    ProblemError,
    Question,
    Tls,
)
from plumbline_models.core.errors import PlumblineError
from plumbline_serve.cli.combine_argument import as_sent
from plumbline_serve.cli.score_command import (
    CHUNK,
    MAX_FILE_BYTES,
    Document,
    FilesToScore,
    failure,
    score_all,
)
from plumbline_serve.cli.score_files import Cutter
from plumbline_serve.offline.image_files import File

CHUNK_BYTES = 32 * 2**20  # half of the default limit of a request, for text and boundaries stand beside the files
TOO_LARGE = 413
REQUEST_MS = 600_000.0  # patience with a server that computes large networks on a CPU


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    url: str
    api_key: str | None = None
    ca: Path | None = None
    """Authorities that its certificate may come from, where they are not public."""


def through_server(inputs: FilesToScore, server: Server) -> Document:
    """Score through a running service.

    Args:
        inputs: What to score, and with which scorers.
        server: Which service.

    Raises:
        PlumblineError: The service cannot be reached or refuses the request as a whole.
    """
    request_id = uuid.uuid4().hex
    cutter = Cutter(CHUNK, max(1, CHUNK_BYTES - inputs.compared.num_bytes), MAX_FILE_BYTES)
    asked = [Question(each.text, each.expect, each.tag, each.depends_on) for each in inputs.questions]
    combine = as_sent(inputs.combine)
    compared = inputs.compared.image
    reference_image = None if compared is None else Image.data(compared)  # one object, which is sent once
    try:
        tls = None if server.ca is None else Tls(ca=server.ca)
        with Client(server.url, api_key=server.api_key, timeout_ms=REQUEST_MS, tls=tls) as client:

            def score(files: Sequence[File]) -> Document:
                items = _items(inputs, files, questions=asked, reference_image=reference_image)
                try:
                    reply = client.score(items, scorers=inputs.scorers, combine=combine, request_id=request_id)
                except ProblemError as error:
                    return _refused(files, items, error)
                document = reply.model_dump(mode="json", exclude_unset=True)  # the fields that the service sent
                for file, result in zip(files[: len(items)], document["results"], strict=True):
                    result["id"] = file.name
                return document

            return score_all(inputs, cutter, score, request_id)
    except PlumblineClientError as error:
        raise PlumblineError(error.detail) from error


def _items(
    inputs: FilesToScore, files: Sequence[File], *, questions: Sequence[Question], reference_image: Image | None
) -> list[Item]:
    """An item for each file, or one of all as frames."""
    images = [Image.data(file.data) for file in files]
    return [
        Item(
            image if inputs.pool is None else None,
            inputs.text,
            references=inputs.compared.references,
            reference_image=reference_image,
            phrases=inputs.compared.phrases,
            questions=questions,
            frames=() if inputs.pool is None else images,
            pool=inputs.pool or "mean",
        )
        for image in (images if inputs.pool is None else images[:1])
    ]


def _refused(files: Sequence[File], items: Sequence[Item], error: ProblemError) -> Document:
    """The result of one item that is too large for the server; of several the client sends fewer at a time.

    Raises:
        ProblemError: The server refused something else.
    """
    if error.problem.status != TOO_LARGE or len(items) > 1:
        raise error
    said = error.problem.model_dump(mode="json", exclude_defaults=True, exclude={"request_id"})
    return {"results": [failure(files[0], said)]}
