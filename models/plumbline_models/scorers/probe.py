"""Scores that are a small head on an image's encoding: any probe, aesthetic predictors, LAION's safety detector.

Schuhmann et al., "LAION-5B: An open large-scale dataset for training next generation image-text models", NeurIPS 2022,
arXiv:2210.08402: the first aesthetic predictor is a linear layer on CLIP's encoding, its successors are small MLPs, and
so is the detector of unsafe images. V2.5 is one on SigLIP's pooled vector. All read encodings of unit norm.

The encoder is shared with every scorer that names the same one; the head then costs microseconds. Which layers a file
holds and where their rectifiers are, its tensors' names say (`networks/probe/layouts.py`). The programs for LAION's V2
resize images in the mode of the file, before they make RGB of it; here images are decoded to RGB first, which differs
for palettes, 1-bit files and transparency alone.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline_models.core.errors import ConfigError, MissingImageError, PlumblineError
from plumbline_models.core.licences import HEAD
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.encoders import ClipImageEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.probe.layouts import Activation, StoredHead, read_head
from plumbline_models.weights.digest import SHORT, sha256_of, verify
from plumbline_models.weights.paths import CLIP_PATHS, Paths
from plumbline_models.weights.sources import find_file

L14: Final = ClipSection(arch="ViT-L-14-quickgelu", pretrained="openai")
"""What LAION's heads were trained on."""
V2_5_HEAD: Final = "aesthetic_predictor_v2_5.pth"
_Digest = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class HeadSection(BaseModel):
    """What the sections of all these scorers may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: ClipSection
    """The CLIP or SigLIP whose encodings the head reads."""
    weights: str = Field(min_length=1)
    """The head: a file, or `org/repository/file` on the hub."""
    sha256: _Digest | None = None
    """Hex digest that the head's file must have."""


class ProbeSection(HeadSection):
    """The section `probe` of the configuration."""

    activation: Activation = "none"
    """What becomes of the head's number: nothing; `sigmoid`: a probability; `clip`: cut to 0 and 1."""


class AestheticSection(HeadSection):
    """The section `aesthetic` of the configuration."""

    encoder: ClipSection = L14
    """The CLIP or SigLIP whose encodings the head reads."""

    @model_validator(mode="before")
    @classmethod
    def _read_model(cls, options: Any) -> Any:
        """`model: FOLDER` stands for SigLIP and the head of V2.5 in one folder."""
        if not isinstance(options, Mapping) or "model" not in options:
            return options
        if {"encoder", "weights"} & options.keys():
            raise ValueError("give model, or encoder and weights")
        rest = {name: value for name, value in options.items() if name != "model"}
        folder = Path(str(options["model"])).expanduser()
        return {**rest, "encoder": {"checkpoint": folder}, "weights": str(folder / V2_5_HEAD)}


class NsfwSection(HeadSection):
    """The section `nsfw` of the configuration."""

    encoder: ClipSection = L14
    """The CLIP whose encodings the head reads."""


class HeadScorer:
    """A head's number of each image.

    Args:
        image: Its encodings have unit norm.
        stored: The head.
        activation: What becomes of its number.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo]
    paths: ClassVar[Paths] = {"encoder": CLIP_PATHS, "weights": "file or hub file"}

    def __init__(self, image: Encoder, stored: StoredHead, activation: Activation, *, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder | None = None
        self.relative_cost = relative_cost
        self._head, self._activation = stored.head, activation
        self.conventions: Mapping[str, str] = {
            "value": "head of the unit-norm encoding",
            "head": f"{stored.layout.name} {stored.sha256[:SHORT]}",
            HEAD: stored.layout.licence,
            "activation": activation,
        }

    @classmethod
    @abstractmethod
    def _read(cls, options: Mapping[str, Any]) -> HeadSection:
        """The section of this scorer."""

    @classmethod
    @abstractmethod
    def _activation_of(cls, section: HeadSection, stored: StoredHead) -> Activation:
        """What becomes of the head's number."""

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; of weights, it reads the head alone.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid, or the head is not one for these encodings.
            UnknownArchError: open_clip has no such architecture or tag.
            CheckpointError: There is no such head or encoder, or it is not one that is read here.
        """
        section = cls._read(options)
        file = find_file(section.weights)
        if section.sha256 is not None:
            verify(file, section.sha256)
        stored = read_head(file, sha256_of(file))
        spec = ClipSpec.of(section.encoder)
        if stored.head.width != spec.arch.embed_dim:
            raise ConfigError(
                f"The head of {cls.info.name} takes encodings of {stored.head.width} numbers, and {spec.arch.name} "
                f"makes {spec.arch.embed_dim}.",
                scorer=cls.info.name,
            )
        image = ClipImageEncoder(spec, context.backend)
        activation = cls._activation_of(section, stored)
        return cls(context.registry.take(image), stored, activation, relative_cost=image.gflop)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image.

        Args:
            batch: Unit-norm `images`.

        Returns:
            The head's number for each; `raw` beside it, where an activation changes it.

        Raises:
            MissingImageError: The batch has no images.
        """
        if batch.images is None:
            raise MissingImageError(f"{self.info.name} needs an image.", scorer=self.info.name)
        return [self._score(self._head.apply(encoding)) for encoding in batch.images]

    def _score(self, raw: float) -> Score:
        if self._activation == "none":
            return Score(value=raw)
        value = min(1.0, max(0.0, raw)) if self._activation == "clip" else (1 + math.tanh(raw / 2)) / 2
        return Score(value=value, details={"raw": raw})


class Probe(HeadScorer):
    """Any head on any encoder."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="probe",
        summary="What a head of your own makes of the image's encoding.",
        needs=frozenset({"image"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="",
    )

    @classmethod
    def _read(cls, options: Mapping[str, Any]) -> HeadSection:
        return parse_section(ProbeSection, options, scorer=cls.info.name)

    @classmethod
    def _activation_of(cls, section: HeadSection, stored: StoredHead) -> Activation:
        del stored
        return section.activation if isinstance(section, ProbeSection) else "none"


class Aesthetic(HeadScorer):
    """How much people like the look of an image, by LAION's predictors or V2.5."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="aesthetic",
        summary="How much people like the look of the image, from 1 to 10, whatever it shows.",
        needs=frozenset({"image"}),
        low=None,
        high=None,
        higher_is_better=True,
        source="arXiv:2210.08402",
    )
    paths: ClassVar[Paths] = {**HeadScorer.paths, "model": "path"}

    @classmethod
    def _read(cls, options: Mapping[str, Any]) -> HeadSection:
        return parse_section(AestheticSection, options, scorer=cls.info.name)

    @classmethod
    def _activation_of(cls, section: HeadSection, stored: StoredHead) -> Activation:
        del section, stored
        return "none"


class Nsfw(HeadScorer):
    """The probability that an image is unsafe, by LAION's detectors."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="nsfw",
        summary="Probability that the image is unsafe. A first gate, and no moderation by itself.",
        needs=frozenset({"image"}),
        low=0.0,
        high=1.0,
        higher_is_better=False,
        source="arXiv:2210.08402",
    )

    @classmethod
    def _read(cls, options: Mapping[str, Any]) -> HeadSection:
        return parse_section(NsfwSection, options, scorer=cls.info.name)

    @classmethod
    def _activation_of(cls, section: HeadSection, stored: StoredHead) -> Activation:
        """The detector for ViT-H/14 was trained on the probability itself, the others on its logit."""
        del section
        return "clip" if stored.layout.is_probability else "sigmoid"
