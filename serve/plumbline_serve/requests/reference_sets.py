"""Sets that are kept under a name, for others to be compared with; each is of one encoder and its weights.

Kept are encodings and not moments alone: the discrepancies are of all pairs of members. They are kept as float32, which
is what encoders make and callers send in base64, so that the distance to a kept set is that to the same set sent.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.protocols import Encoder
from plumbline_models.sets.vectors import Matrix, StillWanted, read_rows, unit_rows
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.sets import ReferenceSetEntry, ReferenceSetRequest
from plumbline_serve.requests.binding import Bindings, bound_to_of
from plumbline_serve.requests.embedding import image_encoders, towers
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.set_members import PAIR, Members, check_set, computed, members_of, work_on
from plumbline_serve.requests.validation import placed
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact, Binding, Store


class ReferenceSets:
    """The sets that are kept, by name.

    Args:
        store: Where.
        bindings: Say what they hold for.
    """

    def __init__(self, store: Store, bindings: Bindings) -> None:
        self._store = store
        self._bindings = bindings

    async def make(
        self, pipeline: Pipeline, request: ReferenceSetRequest, caller: Caller = ANYONE
    ) -> ReferenceSetEntry:
        """Keep a set, in the place of one of its name; raises as `Service.refer_set` does.

        Args:
            pipeline: Of the process.
            request: As the caller sent it.
            caller: Who calls.
        """
        check_set(pipeline.checks, request)
        if request.embeddings and not request.encoder:
            fault = {"pointer": "/encoder", "detail": "must say what made embeddings that are kept"}
            raise InvalidFieldError("A set that is kept is of a known encoder.", errors=[fault])
        encoder, _ = towers(pipeline, request.scorer)
        async with pipeline.session(request, caller) as session:
            await session.open(request.images)
            await session.admit([(encoder, request.images)])
            members = await members_of(session, encoder, request)
            _require_all(members)
            members.require(PAIR)
            numbers = await computed(session, partial(_numbers, members), work_on("keep", members))
            bound_to = await self._binding(pipeline, members.encoder or encoder.key)
            shape = {"n": numbers.shape[0], "dim": numbers.shape[1]}
            content = await asyncio.to_thread(lambda: b64encode(numbers.tobytes()).decode())
            kept = Artefact("reference set", request.name, bound_to, {**shape, "float32_le": content})
            summary = Artefact("set summary", request.name, bound_to, shape, kept.created)
            await self._store.put(kept, summary)
        return _entry(summary)

    async def entries(self) -> list[ReferenceSetEntry]:
        """All that are kept, by name."""
        return [_entry(artefact) for artefact in await self._store.all_of("set summary")]

    async def delete(self, name: str) -> None:
        """Forget the one of a name; raises as `Store.delete` does."""
        await self._store.delete("reference set", name, "set summary")

    async def get(self, name: str) -> Artefact:
        """The one of a name; raises as `Store.get` does."""
        return await self._store.get("reference set", name)

    async def check(self, artefact: Artefact, pipeline: Pipeline, encoder: Encoder, given: EncodingSet) -> None:
        """See that a set may be compared with one that is kept.

        Args:
            artefact: That is kept.
            pipeline: Of the process.
            encoder: Which encodes the set's images.
            given: The set; embeddings that come without a name are taken for those of the right encoder.

        Raises:
            BoundToOtherError: It is of another encoder, of other weights, or of images that are read otherwise.
        """
        name = given.encoder if given.embeddings else encoder.key
        if name is not None:
            artefact.check_bound_to(await self._binding(pipeline, name))

    async def _binding(self, pipeline: Pipeline, name: str) -> Binding:
        """What the encoder of a name is here; one that is not loaded is known by its name alone."""
        loaded = image_encoders(pipeline).get(name)
        return Binding(name, "", {}) if loaded is None else await self._bindings.of_encoder(pipeline, loaded)


async def members_of_kept(artefact: Artefact) -> Members:
    """The members of a set that is kept."""
    rows = await asyncio.to_thread(_rows, artefact.document)
    return Members(rows, range(len(rows)), None, artefact.bound_to.scorer, pointer="/reference")


def _rows(document: Mapping[str, Any]) -> Sequence[Matrix]:
    numbers = np.frombuffer(b64decode(document["float32_le"]), "<f4")
    return list(numbers.reshape(document["n"], document["dim"]))


def _numbers(members: Members, still_wanted: StillWanted) -> Matrix:
    """The encodings as float32, as they came where that is what they are; on a thread."""
    still_wanted()
    rows = read_rows(members.vectors, members.pointer)
    unit = unit_rows(rows, members.pointer)
    kept = [row if row.dtype == np.float32 else made.astype("<f4") for row, made in zip(rows, unit, strict=True)]
    return np.stack(kept)


def _require_all(members: Members) -> None:
    for index, error in sorted(members.errors.items()):
        raise placed(error, f"{members.pointer}/{index}")


def _entry(artefact: Artefact) -> ReferenceSetEntry:
    return ReferenceSetEntry(
        name=artefact.name,
        encoder=artefact.bound_to.scorer,
        n=artefact.document["n"],
        dim=artefact.document["dim"],
        bound_to=bound_to_of(artefact),
        created=artefact.created_text,
    )
