"""Guards: signs that an image was made for the score, or is of a kind that nobody built them for.

They are opt-in, need an artefact that the operator built from images and texts of its own (`plumbline guards build`),
and say null without one. `decisions.guards` has the statistics, and what they do not find.
"""

import asyncio
import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import numpy as np
from cachetools import LRUCache

from plumbline_models.core.errors import PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Encoder
from plumbline_models.decisions.gaussian_discriminant import LOGIT_SCALE
from plumbline_models.decisions.guards import (
    Guard,
    alarm_line,
    anchor_mean,
    farthest,
    largest_drop,
    mahalanobis,
    max_softmax,
    positive_mass,
)
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages import EmbedRequest, GuardFlags, GuardOptions, ImageSource
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.embedding import towers
from plumbline_serve.requests.few_shot import Matrix, unit
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case
from plumbline_serve.requests.views import VIEWS, ViewedImageEncoder
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact, Store

NOTHING_KNOWN: Final = GuardFlags(None, None, None, None)
_FARTHEST: Final = 0.15  # of other texts: those that no text is near to
_MAX_TEXTS: Final = 500  # of either kind, so that what is kept has room in the store
_MAX_KEPT: Final = 4  # guards that are read already


@dataclass(frozen=True, slots=True)
class KeptGuard:
    """What real images and texts are like, for one encoder."""

    guard: Guard
    drop_line: float
    """Above which a fall of the cosine in a view is suspect."""
    texts: Matrix
    """`[A, D]`, of what callers ask for."""
    others: Matrix
    """`[N, D]`, of what is farthest from all of those; N may be 0."""

    @property
    def policy(self) -> str:
        """Names what was built, in replies."""
        return f"g1-{hashlib.sha256(repr(self.document()).encode()).hexdigest()[:8]}"

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept; matrices as base64 of little-endian float32."""
        guard = self.guard
        matrices = {"mean": guard.mean, "precision": guard.precision, "centroid": guard.centroid}
        matrices |= {"texts": self.texts, "others": self.others}
        return {
            **{name: _packed(each) for name, each in matrices.items()},
            "anchor_line": guard.anchor_line,
            "distance_line": guard.distance_line,
            "distances": list(guard.distances),
            "drop_line": self.drop_line,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """As `document` wrote it."""
        mean, centroid = _unpacked(document["mean"]), _unpacked(document["centroid"])
        precision = _unpacked(document["precision"]).reshape(len(mean), len(mean))
        lines = document["anchor_line"], document["distance_line"]
        guard = Guard(mean, precision, centroid, *lines, document["distances"])
        texts, others = (_unpacked(document[name]).reshape(-1, len(mean)) for name in ("texts", "others"))
        return cls(guard, document["drop_line"], texts, others)

    def sureness(self, encoding: Matrix) -> dict[str, float]:
        """How sure the best of the texts is, and where there are others, the share of the texts beside them.

        Args:
            encoding: `[D]`, unit norm.
        """
        texts = [_dot(each, encoding) for each in self.texts]
        found = {"max_softmax": max_softmax(texts, LOGIT_SCALE)}
        if len(self.others):
            others = [_dot(each, encoding) for each in self.others]
            found["positive_mass"] = positive_mass(texts, others, LOGIT_SCALE)
        return found


class Guards:
    """The guards that are kept, one for each encoder of images.

    Args:
        store: Where.
        bindings: Say which encoder they hold for.
    """

    def __init__(self, store: Store, bindings: Bindings) -> None:
        self._store = store
        self._bindings = bindings
        self._read: LRUCache[tuple[str, datetime], tuple[KeptGuard, str]] = LRUCache(_MAX_KEPT)

    async def build(
        self,
        pipeline: Pipeline,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        others: Sequence[str] = (),
        *,
        caller: Caller = ANYONE,
    ) -> KeptGuard:
        """Build the guard of the first two towers that are loaded, and keep it in the place of the one before.

        Args:
            pipeline: Of the process.
            images: Real ones, at least 198; those that cannot be read are left out.
            texts: Of the kind that callers send, which have nothing in common; at least 8.
            others: Of other kinds; those that are farthest from all texts are kept.
            caller: Who calls.

        Raises:
            InvalidFieldError: They are too few.
        """
        image, text = towers(pipeline, None)
        async with pipeline.session(EmbedRequest(texts=texts), caller) as session:
            await session.open(images)
            found = await session.image_encodings(image, images)
            sound = [each for each in dict.fromkeys(images) if not isinstance(found[each], PlumblineError)]
            anchors = await _of_texts(session, text, texts[:_MAX_TEXTS])
            candidates = await _of_texts(session, text, others)
            encodings = _units(found[each] for each in sound)
            guard = await asyncio.to_thread(Guard.of, encodings, anchors)
            captions = anchors[(encodings @ anchors.T).argmax(axis=1)]
            drops = await _drops(session, image, sound, encodings=encodings, captions=captions)
        num_kept = min(_MAX_TEXTS, math.ceil(_FARTHEST * len(candidates)))
        chosen = candidates[farthest(candidates, anchors, num_kept=num_kept)] if num_kept else anchors[:0]
        kept = KeptGuard(guard, alarm_line([each for each in drops if each is not None]), anchors, chosen)
        bound_to = await self._bindings.of_encoder(pipeline, image)
        await self._store.put(Artefact("guard", _name(image), bound_to, kept.document()))
        return kept

    async def flags(
        self, pipeline: Pipeline, session: RequestSession, cases: Sequence[Case], options: GuardOptions
    ) -> list[GuardFlags]:
        """What guards say of each case.

        Args:
            pipeline: Of the process.
            session: The request's.
            cases: Checked.
            options: What was asked for.
        """
        flags = [NOTHING_KNOWN] * len(cases)
        loaded = await self._loaded(pipeline)
        if loaded is None:
            return flags
        kept, policy, image, text = loaded
        known = [index for index, case in enumerate(cases) if case.error is None and case.image is not None]
        images = [source for index in known if (source := cases[index].image) is not None]
        await session.open(images)
        encodings = await session.image_encodings(image, images)
        drops: Mapping[int, float | None] = {}
        if options.views:
            drops = await self._drops_of(session, image, text, cases, encodings)
        for index, source in zip(known, images, strict=True):
            if not isinstance(encoding := encodings[source], PlumblineError):
                flags[index] = _flags(kept, policy, unit(encoding), drops.get(index), is_explained=options.explain)
        return flags

    async def _drops_of(
        self,
        session: RequestSession,
        image: Encoder,
        text: Encoder,
        cases: Sequence[Case],
        encodings: Mapping[ImageSource, EncodingOrError],
    ) -> Mapping[int, float | None]:
        """By index, how far each case's cosine falls in a view; those with an image and a text."""
        texts = [case.text for case in cases if case.text is not None]
        of_texts = await session.text_encodings(text, texts) if texts else {}
        paired = [
            index
            for index, case in enumerate(cases)
            if case.error is None
            and case.image is not None
            and case.text is not None
            and not isinstance(encodings[case.image], PlumblineError)
            and not isinstance(of_texts[case.text], PlumblineError)
        ]
        if not paired:
            return {}
        sources = [source for index in paired if (source := cases[index].image) is not None]
        captions = np.stack([unit(of_texts[each]) for index in paired if (each := cases[index].text) is not None])
        known = np.stack([unit(encodings[source]) for source in sources])
        return dict(zip(paired, await _drops(session, image, sources, encodings=known, captions=captions), strict=True))

    async def _loaded(self, pipeline: Pipeline) -> tuple[KeptGuard, str, Encoder, Encoder] | None:
        """The guard of the first two towers that are loaded, and those; None where there is none that fits."""
        if not self._store.may_hold_any:
            return None
        try:
            image, text = towers(pipeline, None)
        except UnknownScorerError:
            return None
        now = await self._bindings.of_encoder(pipeline, image)
        for artefact in await self._store.all_of("guard"):
            if artefact.bound_to == now:
                key = (artefact.name, artefact.created)
                if (found := self._read.get(key)) is None:
                    kept = KeptGuard.from_document(artefact.document)
                    found = self._read[key] = kept, kept.policy
                return *found, image, text
        return None


async def _of_texts(session: RequestSession, encoder: Encoder, texts: Sequence[str]) -> Matrix:
    """`[N, D]` of unit norm, of those that can be read."""
    return _units((await session.text_encodings(encoder, texts)).values() if texts else ())


def _units(found: Iterable[EncodingOrError]) -> Matrix:
    """`[N, D]` of unit norm, of those that are encodings; N may be 0."""
    sound = [unit(each) for each in found if not isinstance(each, PlumblineError)]
    return np.stack(sound) if sound else np.empty((0, 0))


async def _drops(
    session: RequestSession, image: Encoder, sources: Sequence[ImageSource], *, encodings: Matrix, captions: Matrix
) -> list[float | None]:
    """How far each image's cosine with its caption falls in the view where it falls most; None: it has no views."""
    views = [await session.image_encodings(ViewedImageEncoder(image, name), sources) for name in VIEWS]
    found: list[float | None] = []
    for source, encoding, caption in zip(sources, encodings, captions, strict=True):
        seen = [view[source] for view in views]
        if any(isinstance(each, PlumblineError) for each in seen):
            found.append(None)
        else:
            found.append(largest_drop(_dot(encoding, caption), [_dot(unit(each), caption) for each in seen]))
    return found


def _flags(kept: KeptGuard, policy: str, encoding: Matrix, drop: float | None, *, is_explained: bool) -> GuardFlags:
    guard = kept.guard
    explained: dict[str, float] = {}
    if is_explained:
        explained = {
            "anchor_mean": anchor_mean(encoding, guard.centroid),
            "anchor_line": guard.anchor_line,
            "distance": mahalanobis(encoding, guard.mean, guard.precision),
            "distance_line": guard.distance_line,
            **kept.sureness(encoding),
            **({} if drop is None else {"drop": drop, "drop_line": kept.drop_line}),
        }
    return GuardFlags(
        fooling_suspect=guard.is_suspect(encoding),
        ood_score=guard.strangeness(encoding),
        adversarial_suspect=None if drop is None else drop > kept.drop_line,
        policy=policy,
        explained=explained,
    )


def _dot(one: Matrix, other: Matrix) -> float:
    return float(np.dot(one, other))


def _name(encoder: Encoder) -> str:
    """Of what is kept for an encoder; its key may be longer than a name."""
    return hashlib.sha256(encoder.key.encode()).hexdigest()[:32]


def _packed(matrix: Matrix) -> str:
    return base64.b64encode(matrix.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> Matrix:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
