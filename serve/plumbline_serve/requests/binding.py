"""What the values of each loaded scorer come from: the weights and conventions that a decision about them holds for."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import orjson

from plumbline_models.core.protocols import Encoder, EncoderInfo, Scorer
from plumbline_serve.messages.combination import Combination
from plumbline_serve.messages.decisions import BoundTo
from plumbline_serve.requests.combining import Judge
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.settings import ImageSettings
from plumbline_serve.store import COMBINATION, WEIGHTS, Artefact, Binding


@dataclass(frozen=True, slots=True)
class Bindings:
    """Makes bindings of what is loaded.

    Args:
        conventions: What holds for every scorer of images: how files become pixels, by setting.
    """

    conventions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSettings) -> "Bindings":
        """Those of a service with such settings."""
        return cls({f"images.{name}": value for name, value in images.conventions.items()})

    async def of_scorer(self, pipeline: Pipeline, scorer: Scorer) -> Binding:
        """What a scorer's values come from.

        Args:
            pipeline: That it is loaded in.
            scorer: One of it.
        """
        infos = await pipeline.infos()
        own = self.conventions if scorer.image is not None else {}
        digests = weights_of(infos, (scorer.image, scorer.text, scorer.pair))
        return Binding(scorer.info.name, digests, {**own, **scorer.conventions})

    async def of_judge(self, pipeline: Pipeline, judge: Judge) -> Binding:
        """What the values of a scorer or a combination come from.

        Args:
            pipeline: That its scorers are loaded in.
            judge: One or the other.

        Returns:
            Of a combination, in whichever order its terms stand: its name, a digest of all their weights, and as
            conventions what it is made of and, behind each term's name, the term's own.
        """
        if judge.combination is None:
            return await self.of_scorer(pipeline, judge.scorers[0])
        conventions, digests = {COMBINATION: _definition(judge.combination)}, []
        for scorer in sorted(judge.scorers, key=lambda each: each.info.name):
            own = await self.of_scorer(pipeline, scorer)
            digests.append(own.weights)
            conventions |= {f"{own.scorer}.{name}": value for name, value in own.conventions.items()}
            conventions[f"{own.scorer}.{WEIGHTS}"] = own.weights
        return Binding(judge.name, _digest(digests), conventions)

    async def of_encoder(self, pipeline: Pipeline, encoder: Encoder) -> Binding:
        """What an encoder's encodings come from, under the encoder's key.

        Args:
            pipeline: That it is loaded in.
            encoder: One of it.
        """
        infos = await pipeline.infos()
        own = self.conventions if encoder.kind != "text" else {}
        return Binding(encoder.key, weights_of(infos, (encoder,)), dict(own))


def bound_to_of(artefact: Artefact) -> BoundTo:
    """What an artefact is bound to, as replies say it."""
    return BoundTo(artefact.bound_to.weights, artefact.bound_to.conventions)


def weights_of(infos: Mapping[str, EncoderInfo], encoders: Iterable[Encoder | None]) -> str:
    """SHA-256 of the weights of encoders: that of their file where they share one, else of all their digests.

    Args:
        infos: Of what is loaded, by key.
        encoders: Of one scorer.
    """
    found = [infos[each.key].sha256 for each in encoders if each is not None and each.key in infos]
    digests = list(dict.fromkeys(found))
    return digests[0] if len(digests) == 1 else _digest(digests)


def _digest(digests: Iterable[str]) -> str:
    """SHA-256 of several, in hexadecimal."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _definition(combination: Combination) -> str:
    """JSON of what a combination is made of, the same in whichever order its terms stand: sums are exact."""
    terms = sorted(map(asdict, combination.terms), key=lambda term: str(term["scorer"]))
    return orjson.dumps({"method": combination.method, "terms": terms}).decode()
