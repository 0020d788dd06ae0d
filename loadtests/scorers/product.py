"""The product's scorers without the service around them: the same encoders, batched as the batcher would."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, PairInput, Preprocessed, Score
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_models.scorers.qualiclip import QualiClip

Pixels = NDArray[np.uint8]


def write_clip(arch: str, folder: Path, *, seed: int = 0) -> Path:
    """Random weights of an open_clip architecture, the same on every run."""
    torch.manual_seed(seed)
    state = open_clip.create_model(arch, pretrained=None).state_dict()
    file = folder / f"{arch}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items() if name != "attn_mask"}, file)
    return file


def open_context(backend: str, *, precision: str, cache_dir: Path) -> BuildContext:
    """One thread, and exact graphs in fp32, as the service has it."""
    tuning = Tuning(cache_dir, num_threads=1)
    opened = open_backend(backend, precision=precision, tuning=tuning)  # type: ignore[arg-type]  # it says what it takes
    return BuildContext(opened, EncoderRegistry(), reference=open_backend(backend, precision="fp32", tuning=tuning))


def encode(encoder: Encoder, inputs: Sequence[Preprocessed]) -> list[Encoding]:
    """Encodings in order; inputs of one bucket go together, up to the encoder's cost."""
    encodings: dict[int, Encoding] = {}
    for bucket in dict.fromkeys(encoder.bucket(each) for each in inputs):
        waiting = [index for index, each in enumerate(inputs) if encoder.bucket(each) == bucket]
        size = max(1, int(encoder.max_batch_cost // max(encoder.cost(inputs[index]) for index in waiting)))
        for first in range(0, len(waiting), size):
            chosen = waiting[first : first + size]
            encodings.update(zip(chosen, encoder.encode([inputs[index] for index in chosen]), strict=True))
    for encoding in encodings.values():
        if isinstance(encoding, PlumblineError):
            raise encoding
    return [encodings[index] for index in range(len(inputs))]


class FClipScoring:
    """F-CLIPScore from pixels, or from image embeddings, to words."""

    def __init__(self, scorer: FClipScore) -> None:
        self._scorer, self._image, self._pair = scorer, scorer.image, scorer.pair
        self._image.load()
        self._pair.load()

    def score(self, pairs: Sequence[tuple[Pixels, str]]) -> list[NDArray[np.float32]]:
        """Attributions of each pair's tokens; an image that comes often is prepared and encoded once."""
        distinct = {id(pixels): pixels for pixels, _ in pairs}
        encodings = encode(self._image, [self._image.preprocess(pixels) for pixels in distinct.values()])
        encoding_of = dict(zip(distinct, encodings, strict=True))
        return self._finish([PairInput(caption, encoding_of[id(pixels)]) for pixels, caption in pairs])

    def attribute(self, embeddings: NDArray[np.float32], caption: str) -> list[NDArray[np.float32]]:
        """The same for one caption and images embedded already."""
        return self._finish([PairInput(caption, encoding) for encoding in embeddings])

    def _finish(self, pairs: Sequence[PairInput]) -> list[NDArray[np.float32]]:
        encodings = encode(self._pair, [self._pair.preprocess(pair) for pair in pairs])
        self._scorer.score(Embedded(pairs=encodings, texts=[pair.caption for pair in pairs]))
        return [encoding.tokens for encoding in encodings]


def open_fclipscore(arch: str, checkpoint: Path, *, precision: str, cache_dir: Path) -> FClipScoring:
    """The scorer on OpenVINO, loaded."""
    context = open_context("openvino", precision=precision, cache_dir=cache_dir)
    return FClipScoring(FClipScore.build({"arch": arch, "checkpoint": checkpoint}, context))


class ClipScoring:
    """CLIPScore from pixels and captions to cosines."""

    def __init__(self, scorer: ClipScore) -> None:
        self._scorer, self._image, self._text = scorer, scorer.image, scorer.text
        self._image.load()
        self._text.load()

    def score(self, pairs: Sequence[tuple[Pixels, str]]) -> list[float]:
        """Cosines in order."""
        images = encode(self._image, [self._image.preprocess(pixels) for pixels, _ in pairs])
        captions = encode(self._text, [self._text.preprocess(caption) for _, caption in pairs])
        answers = self._scorer.score(Embedded(images=images, captions=captions))
        return [float(answer.details["cosine"]) for answer in answers if isinstance(answer, Score)]


def open_clipscore(arch: str, checkpoint: Path, *, precision: str, cache_dir: Path) -> ClipScoring:
    """The scorer on OpenVINO, loaded."""
    context = open_context("openvino", precision=precision, cache_dir=cache_dir)
    return ClipScoring(ClipScore.build({"arch": arch, "checkpoint": checkpoint}, context))


class QualityScoring:
    """QualiCLIP from pixels to scores."""

    def __init__(self, scorer: QualiClip) -> None:
        self._scorer, self._image = scorer, scorer.image
        self._image.load()

    def score(self, images: Sequence[Pixels]) -> list[float]:
        """Scores in order."""
        encodings = encode(self._image, [self._image.preprocess(pixels) for pixels in images])
        answers = self._scorer.score(Embedded(images=encodings))
        return [answer.value for answer in answers if isinstance(answer, Score)]


def open_qualiclip(arch: str, checkpoint: Path, *, backend: str, precision: str, cache_dir: Path) -> QualityScoring:
    """The scorer, loaded."""
    context = open_context(backend, precision=precision, cache_dir=cache_dir)
    return QualityScoring(QualiClip.build({"arch": arch, "checkpoint": checkpoint}, context))
