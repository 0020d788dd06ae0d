"""Few-shot classifiers: made from a request's images, kept by name, and scorers from then on."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, cast

import numpy as np
from cachetools import LRUCache

from plumbline_models.core.errors import (
    InvalidFieldError,
    PlumblineError,
    RequestError,
    StoreUnavailableError,
    UnknownArtefactError,
)
from plumbline_models.core.protocols import Encoder, Scorer
from plumbline_models.decisions.gaussian_discriminant import LEAST_SHOTS
from plumbline_serve.messages import ClassifierRequest, ImageSource, ScorerEntry
from plumbline_serve.messages.decisions import CLASSIFIER_PREFIX, ClassifierEntry
from plumbline_serve.requests.binding import Bindings, bound_to_of
from plumbline_serve.requests.embedding import image_encoders, towers
from plumbline_serve.requests.few_shot import FewShotScorer, Learnt, Matrix, conventions_of, info_of, unit
from plumbline_serve.requests.listing import scorer_entry
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.validation import placed
from plumbline_serve.scheduling.concurrency import together
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact, Store

_MAX_KEPT: Final = 64  # classifiers that are read already


class Classifiers:
    """The classifiers that are kept.

    Args:
        store: Where.
        bindings: Say which encoder they hold for.
    """

    def __init__(self, store: Store, bindings: Bindings) -> None:
        self._store = store
        self._bindings = bindings
        self._read: LRUCache[tuple[str, datetime], Learnt] = LRUCache(_MAX_KEPT)

    async def make(self, pipeline: Pipeline, request: ClassifierRequest, caller: Caller = ANYONE) -> ClassifierEntry:
        """Learn from images and keep it, in the place of one of its name; raises as `Service.classify` does.

        Args:
            pipeline: Of the process.
            request: As the caller sent it.
            caller: Who calls.
        """
        _check(pipeline, request)
        image_encoder, text_encoder = towers(pipeline, request.scorer)
        images = [image for given in request.classes.values() for image in given]
        labels = [label for label, given in enumerate(request.classes.values()) for _ in given]
        async with pipeline.session(request, caller) as session:
            await session.open(images)
            prompts = [request.prompts[name] for name in request.classes]
            await session.admit([(image_encoder, images), (text_encoder, prompts)])
            found: list[Mapping[Any, Any]] = await together(
                (session.image_encodings(image_encoder, images), session.text_encodings(text_encoder, prompts))
            )
            of_images = _stacked(found[0], images, [*_image_pointers(request)])
            of_texts = _stacked(found[1], prompts, [f"/prompts/{_escaped(name)}" for name in request.classes])
            learnt, chosen = await asyncio.to_thread(Learnt.of, list(request.classes), of_images, labels, of_texts)
            bound_to = await self._bindings.of_encoder(pipeline, image_encoder)
            document = {
                **learnt.document(),
                "scorer": _reader(pipeline, image_encoder).info.name,
                "num_images": len(images),
                "mixing": chosen.mixing,
                "accuracy_cv": chosen.accuracy_cv,
                "accuracy_zero_shot": chosen.accuracy_zero_shot,
            }
            artefact = Artefact("classifier", request.name, bound_to, document)
            await self._store.put(artefact)
        return _entry(artefact)

    async def entries(self) -> list[ClassifierEntry]:
        """All that are kept, by name."""
        return [_entry(artefact) for artefact in await self._store.all_of("classifier")]

    async def encoder_key(self, name: str) -> str:
        """The key of the encoder that the one of a name was made with; raises as `Store.get` does."""
        return (await self._store.get("classifier", name)).bound_to.scorer

    async def delete(self, name: str) -> None:
        """Forget the one of a name; raises as `Store.delete` does."""
        await self._store.delete("classifier", name)

    async def scorers(self, pipeline: Pipeline) -> list[ScorerEntry]:
        """Those that what is loaded can use, as scorers, by name; none where the store cannot be read.

        Args:
            pipeline: Of the process.
        """
        try:
            kept = await self._store.all_of("classifier") if self._store.may_hold_any else []
        except StoreUnavailableError:  # it stands in the log, and what is loaded scores without a store
            return []
        infos, found = await pipeline.infos(), list[ScorerEntry]()
        for artefact in kept:
            classes = artefact.document["classes"]
            with suppress(RequestError):  # of other weights: who names it is told so
                encoder = await self._encoder_of(pipeline, artefact)
                about, conventions = info_of(artefact.name, classes), conventions_of(classes, artefact.created_text)
                found.append(scorer_entry(about, [encoder.key], conventions, infos))
        return found

    async def beside(self, pipeline: Pipeline, named: Iterable[str]) -> Pipeline:
        """A pipeline with the classifiers among scorers that are named, beside the scorers that are loaded.

        Args:
            pipeline: Of the process.
            named: Scorers.

        Returns:
            The same one where there are none; a name that is not kept is left to the checks of scorers.

        Raises:
            BoundToOtherError: A classifier was made with another encoder, or with other weights of it.
        """
        names = dict.fromkeys(name for name in named if name.startswith(CLASSIFIER_PREFIX))
        found = [await self._scorer(pipeline, name.removeprefix(CLASSIFIER_PREFIX)) for name in names]
        # mypy: a scorer's info is its class's, but for these
        known = {each.info.name: cast("Scorer", each) for each in found if each is not None}
        return pipeline.beside(known) if known else pipeline

    async def _scorer(self, pipeline: Pipeline, name: str) -> FewShotScorer | None:
        try:
            artefact = await self._store.get("classifier", name)
        except UnknownArtefactError:
            return None
        encoder = await self._encoder_of(pipeline, artefact)
        key = (name, artefact.created)
        learnt = self._read.get(key) or Learnt.from_document(artefact.document)
        self._read[key] = learnt
        cost = _reader(pipeline, encoder).relative_cost
        return FewShotScorer(name, learnt, encoder, made=artefact.created_text, relative_cost=cost)

    async def _encoder_of(self, pipeline: Pipeline, artefact: Artefact) -> Encoder:
        """The encoder that it was made with; raises as `beside` does."""
        encoder = _encoder(pipeline, artefact)
        artefact.check_bound_to(await self._bindings.of_encoder(pipeline, encoder))
        return encoder


def scorers_named(request: Any) -> Iterator[str]:
    """The names of scorers in a request of any kind."""
    yield from getattr(request, "scorers", None) or ()
    yield from (each.scorer for each in getattr(request, "policy", ()))
    yield from (term.scorer for each in getattr(request, "combine", {}).values() for term in each.terms)
    if (named := getattr(request, "scorer", None)) is not None:
        yield named


def _check(pipeline: Pipeline, request: ClassifierRequest) -> None:
    pipeline.checks.count(sum(len(given) for given in request.classes.values()))
    if missing := sorted({*request.classes} ^ {*request.prompts}):
        pointer = f"/prompts/{_escaped(missing[0])}"
        fault = {"pointer": pointer, "detail": "must be there for each class, and for no other"}
        raise InvalidFieldError("Classes and prompts have different names.", errors=[fault])
    for name, given in request.classes.items():
        if len(given) < LEAST_SHOTS:
            fault = {"pointer": f"/classes/{_escaped(name)}", "detail": f"must have at least {LEAST_SHOTS} images"}
            raise InvalidFieldError(f"The class {name[:64]} has fewer than {LEAST_SHOTS} images.", errors=[fault])
    for name, text in request.prompts.items():
        if (wrong := pipeline.checks.text(text)) is not None:
            raise placed(wrong, f"/prompts/{_escaped(name)}")


def _stacked(
    encodings: Mapping[Any, Any], inputs: Sequence[ImageSource] | Sequence[str], pointers: list[str]
) -> Matrix:
    """`[N, D]` of unit norm; raises what is wrong with the first that has no encoding."""
    for each, pointer in zip(inputs, pointers, strict=True):
        if isinstance(error := encodings[each], PlumblineError):
            raise placed(error, pointer)
    return np.stack([unit(encodings[each]) for each in inputs])


def _image_pointers(request: ClassifierRequest) -> Iterator[str]:
    for name, given in request.classes.items():
        yield from (f"/classes/{_escaped(name)}/{index}" for index in range(len(given)))


def _reader(pipeline: Pipeline, encoder: Encoder) -> Scorer:
    """The first scorer that reads an encoder."""
    return next(each for each in pipeline.scorers.values() if each.image is not None and each.image.key == encoder.key)


def _encoder(pipeline: Pipeline, artefact: Artefact) -> Encoder:
    """The encoder that a classifier was made with; another where it is not loaded, which is refused by its name."""
    return image_encoders(pipeline).get(artefact.bound_to.scorer) or towers(pipeline, None)[0]


def _entry(artefact: Artefact) -> ClassifierEntry:
    document = {name: value for name, value in artefact.document.items() if name not in {"weights", "bias"}}
    return ClassifierEntry(
        name=artefact.name, bound_to=bound_to_of(artefact), created=artefact.created_text, **document
    )


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
