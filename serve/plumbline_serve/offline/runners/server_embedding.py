"""Rows as members of a set, by the encodings that a service gives of the images that it has scored."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from plumbline_client import Client, EmbedReply, GrpcClient, Image, InvalidRequestError, PlumblineClientError
from plumbline_models.core.errors import PlumblineError
from plumbline_serve.offline.rows import Picture, Row, Url
from plumbline_serve.offline.runners.chunks import Document
from plumbline_serve.requests.scored_members import SetMember, Vector, member_of

_SIDE_PX = 64


@dataclass(slots=True)
class Embedding:
    """Asks for the encodings of one scorer's towers; a replica that has just scored an image still has its own."""

    client: Client | GrpcClient
    """Of the service."""
    scorer: str | None
    """Whose towers; None: the first that has such."""
    encoder: str
    """Of images, by its key."""

    @classmethod
    def of(cls, client: Client | GrpcClient, scorers: Sequence[str] | None) -> "Embedding":
        """The towers of the first scorer that has them.

        Args:
            client: Of the service.
            scorers: That are asked for; None: all that are loaded there.

        Raises:
            PlumblineError: No scorer has them, or the service gives no encodings.
        """
        detail = ""
        for name in scorers or (None,):
            try:
                return cls(client, name, client.embed([_grey()], scorer=name).encoder)
            except InvalidRequestError as error:
                detail = error.detail
            except PlumblineClientError as error:
                raise PlumblineError(f"The set cannot be measured: {error.detail}") from error
        raise PlumblineError(f"The set cannot be measured: {detail}")

    def members(self, rows: Sequence[Row], results: Sequence[Document]) -> list[SetMember | None]:
        """A member for each row; None where it was not scored, or could not be encoded.

        Args:
            rows: That were sent.
            results: Of each.

        Raises:
            PlumblineClientError: The service gives no encodings any more.
        """
        scored = [row for row, result in zip(rows, results, strict=True) if result["status"] == "ok"]
        images = [image for row in scored for each in _pictures(row) if (image := image_of(each)) is not None]
        texts = list(dict.fromkeys(row.text for row in scored if row.text is not None))
        vectors = iter(self._embedded(images))
        of_texts = dict(zip(texts, self._embedded(texts), strict=True))
        found: dict[int, SetMember | None] = {}
        for row in scored:
            text = None if row.text is None else of_texts[row.text]
            frames = [vector for _ in _pictures(row) if (vector := next(vectors)) is not None]
            is_whole = len(frames) == len(_pictures(row)) > 0 and (row.text is None or text is not None)
            found[row.number] = member_of(frames, text, _contents(row)) if is_whole else None
        return [found.get(row.number) for row in rows]

    def _embedded(self, inputs: Sequence[Image] | Sequence[str]) -> list[Vector | None]:
        """One for each; where they are too many for one call, the client makes several."""
        return list(_vectors(self.client.embed(inputs, scorer=self.scorer))) if inputs else []


def image_of(picture: Picture | None) -> Image | None:
    """A picture as the client sends it.

    Raises:
        PlumblineError: Its file was not read.
    """
    match picture:
        case None:
            return None
        case bytes():
            return Image.data(picture)
        case Url(address=address):
            return Image.url(address)
    raise PlumblineError("The image was not read.")


def _vectors(reply: EmbedReply) -> Iterator[Vector | None]:
    for each in reply.vectors:
        yield None if each.error is not None else np.frombuffer(each.data, "<f4")


def _pictures(row: Row) -> Sequence[Picture]:
    return row.frames or ([] if row.image is None else [row.image])


def _contents(row: Row) -> list[bytes]:
    pictures = (each if isinstance(each, bytes) else str(each).encode() for each in _pictures(row))
    return [hashlib.sha256(each).digest() for each in pictures]


def _grey() -> Image:
    """What is sent to see whether encodings are given, and by which encoder."""
    out = io.BytesIO()
    PillowImage.new("RGB", (_SIDE_PX, _SIDE_PX), "grey").save(out, "PNG")
    return Image.data(out.getvalue())
