"""What encoders make of a few fixed images and captions, and whether two of them make the same of these.

The whole of an encoder is run, its preprocessing included, in the batches in which it serves. The inputs are computed
from whole numbers: they are the same on every machine and with every version of a library.
"""

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np

from plumbline_models.backends.agreement import BOUNDS, relative_difference, sample_rows
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import AsksQuestions, Encoder, EncoderInfo, Encoding, PairInput, Scorer
from plumbline_serve.batching import Compute
from plumbline_serve.scheduling.request_context import RequestContext

SIZES = ((224, 320), (320, 224), (288, 288), (256, 448))
"""Of the images, height first."""
CAPTIONS = ("a red circle", "two dogs on a beach at sunset", "the word PLUMB in blue letters", "nothing but fog")
Outcome: TypeAlias = Literal["agrees", "differs", "changed"]
_SAME = ("key", "kind", "arch", "sha256", "dim", "precision", "context_length", "notes")
"""What of an encoder's description decides its encodings; weights may have moved, and another backend may run them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What an encoder made of the fixed inputs."""

    info: EncoderInfo
    values: Sequence[Array]
    """Of each input at most 256 numbers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An encoder beside that of the same key in another configuration."""

    outcome: Outcome
    """`changed`: there is none, or its description says that it computes something else."""
    difference: float = 0.0
    """The norm of the difference by that of what was given before."""
    bound: float = math.inf


async def sample(
    scorers: Iterable[Scorer], encoders: Iterable[Encoder], compute: Compute, context: RequestContext
) -> dict[str, Sample]:
    """What encoders make of the fixed inputs, by key.

    One that takes none of them is left out, and so is one of pairs whose image encoder is not among them.

    Args:
        scorers: Say which image encoder a pair encoder reads.
        encoders: That `compute` runs.
        context: Of the calls.
    """
    held = list(encoders)
    encodings: dict[str, Sequence[Encoding]] = {}
    found: dict[str, Sample] = {}
    infos = {info.key: info for info in await compute.infos()}
    for encoder in sorted(held, key=lambda each: each.kind == "pair"):
        try:
            raw = _raw(encoder, scorers, encodings)
            inputs = [await asyncio.to_thread(encoder.preprocess, each) for each in raw]
            made = (await compute.encode(encoder.key, inputs, context)).encodings if inputs else ()
        except PlumblineError:
            continue
        if not made or any(isinstance(each, PlumblineError) for each in made):
            continue
        encodings[encoder.key] = made
        values = [_few(each) for each in made]
        if any(each.size for each in values):
            found[encoder.key] = Sample(infos[encoder.key], values)
    return found


def compare(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> dict[str, Verdict]:
    """Each encoder of a new configuration beside that of the one before, by key.

    Args:
        before: Of the one that answers callers.
        after: Of the one that should.
    """
    return {key: _verdict(before.get(key), new) for key, new in after.items()}


def _verdict(old: Sample | None, new: Sample) -> Verdict:
    if old is None or any(getattr(old.info, name) != getattr(new.info, name) for name in _SAME):
        return Verdict("changed")
    # Each may be as far from torch as its precision allows; the same backend rounds in the same way.
    num_roundings = 1 if (old.info.backend, old.info.device) == (new.info.backend, new.info.device) else 2
    bound = num_roundings * BOUNDS.get(new.info.precision, BOUNDS["fp32"])
    if [each.size for each in old.values] != [each.size for each in new.values]:
        return Verdict("differs", math.inf, bound)
    difference = relative_difference(np.concatenate(new.values), np.concatenate(old.values))
    return Verdict("agrees" if difference <= bound else "differs", difference, bound)  # NaN is no agreement


def _raw(
    encoder: Encoder, scorers: Iterable[Scorer], encodings: Mapping[str, Sequence[Encoding]]
) -> Sequence[Pixels | str | PairInput]:
    if encoder.kind == "image":
        return [_image(index, *size) for index, size in enumerate(SIZES)]
    if encoder.kind == "text":
        return CAPTIONS
    for scorer in scorers:
        if scorer.pair is not None and scorer.pair.key == encoder.key and scorer.image is not None:
            template = scorer.template if isinstance(scorer, AsksQuestions) else None
            images = encodings.get(scorer.image.key, ())
            return [PairInput(caption, image, template) for caption, image in zip(CAPTIONS, images, strict=False)]
    return ()


def _image(index: int, height: int, width: int) -> Pixels:
    """Slopes of another steepness per channel, under blocks of another size per image."""
    y, x, channel = np.ogrid[:height, :width, :3]
    block = 4 << index
    blocks = (y // block * 37 + x // block * 91) % 64
    pixels: Pixels = ((x * (channel + 1) // 2 + y * (3 - channel) // 2 + blocks + 29 * index) % 256).astype(np.uint8)
    return pixels


def _few(encoding: Encoding) -> Array:
    numbers = np.concatenate([np.empty(0), *_numbers(encoding)])
    return sample_rows(numbers[np.newaxis])[0] if numbers.size else numbers


def _numbers(encoding: Encoding) -> Iterator[Array]:
    """All numbers of an encoding, whatever it is made of."""
    if isinstance(encoding, np.ndarray | np.number | float | int):
        yield np.asarray(encoding, np.float64).ravel()
    else:
        yield from chain.from_iterable(map(_numbers, _parts(encoding)))


def _parts(encoding: Encoding) -> Iterable[Any]:
    if is_dataclass(encoding) and not isinstance(encoding, type):
        return [getattr(encoding, field.name) for field in fields(encoding)]
    if isinstance(encoding, Mapping):
        return [encoding[name] for name in sorted(encoding, key=str)]
    return encoding if isinstance(encoding, list | tuple) else ()
