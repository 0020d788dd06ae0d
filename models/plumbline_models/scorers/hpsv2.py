"""HPSv2: which image people prefer for a prompt.

Wu et al., "Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of Text-to-Image Synthesis",
arXiv:2306.09341, section 4: the cosine of a ViT-H/14 that was trained further on preferences. Versions 2 and 2.1 are
other weights on other scales. It was trained on probabilities of preference, softmaxes of cosines times a learnt scale;
the program's scores leave that scale out, and it stands in the checkpoint as `logit_scale`.

Images are letterboxed in floats (`images/letterbox.py`). The authors' program smooths images that shrink or not, by the
torchvision that is installed: since 0.17 it does, which is the default here; the published tables are older. It fails
on images with an alpha channel, which are converted here, and on those whose longest side is 224 pixels and the other
is not, which are letterboxed here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.archs import Arch, find_arch, read_arch
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.two_towers import Towers, captioned, scaled_cosine
from plumbline_models.weights.digest import SHORT, sha256_of, verify
from plumbline_models.weights.folders import is_folder_name
from plumbline_models.weights.licences import file_licence, hub_licence
from plumbline_models.weights.paths import Paths
from plumbline_models.weights.sources import CONFIG_NAMES, HubFile, LocalFile, find_in_folder

PUBLISHED: Final = "xswu/HPSv2"
ARCH: Final = "ViT-H-14"  # of every published file; none says so itself


class HpsV2Section(BaseModel):
    """The section `hpsv2` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(PUBLISHED, min_length=1)
    """A hub name, a folder, or a file of weights; a folder may hold an `open_clip_config.json` of another size."""
    version: Literal["v2.1", "v2"] = "v2.1"
    """Which of the two published files; their scores do not compare."""
    antialias: bool = True
    """Whether images that shrink are smoothed; false gives what environments before torchvision 0.17 gave."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex digest that the weights must have."""


class HpsV2:
    """Cosine of an image and its prompt, as preferences have trained it.

    Args:
        image: Of the same CLIP as `text`.
        text: Its encodings have the checkpoint's scale as their length.
        section: The scorer's settings.
        relative_cost: GFLOP per item.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="hpsv2",
        summary="Which image people prefer for the text. Compare images of one text only.",
        needs=frozenset({"image", "text"}),
        low=-1.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2306.09341",
    )
    paths: ClassVar[Paths] = {"model": "folder or hub name"}

    def __init__(self, image: Encoder, text: Encoder, section: HpsV2Section, *, relative_cost: float) -> None:
        self.image: Encoder = image
        self.text: Encoder = text
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {
            "value": "cosine",
            "version": section.version,
            "antialias": str(section.antialias).lower(),
            "probability": "softmax of exp(logit_scale) * cosine of one text's images",
        }
        self.relative_cost = relative_cost

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid.
            CheckpointError: There are no such weights, or they are not those that the section means.
        """
        section = parse_section(HpsV2Section, options, scorer=cls.info.name)
        towers = Towers.open(_spec(section), context, is_scaled=True)
        return cls(towers.image, towers.text, section, relative_cost=towers.image_gflop + towers.text_gflop)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image for the prompt at the same index.

        Args:
            batch: Unit-norm `images`, `captions` of the scale's length, and the `texts` of the captions.

        Returns:
            Cosines in [-1, 1], higher is better; `truncated` where the prompt was cut. Logits are the scale times that.

        Raises:
            MissingTextError: The batch has no images or no captions.
        """
        return [_score(*each) for each in captioned(batch, self.text, scorer=self.info.name)]


def _score(image: Encoding, caption: Encoding, said: Mapping[str, Any]) -> Score:
    logit, scale = scaled_cosine(image, caption)
    return Score(value=logit / scale if scale else 0.0, details=said, logit=logit)


def _spec(section: HpsV2Section) -> ClipSpec:
    names = _names(section.version)
    variant = "+letterbox" if section.antialias else "+letterbox-aliased"
    if not is_folder_name(section.model) and not Path(section.model).is_file():
        arch = _letterboxed(find_arch(ARCH), section)
        name, source = f"{section.model}@{section.version}{variant}", f"{section.model} {section.version}"
        licence = hub_licence(section.model)
        return ClipSpec(name, arch, HubFile(section.model, names), source, licence, section.sha256)
    path = Path(section.model).expanduser()
    weights = find_in_folder(path, names) if path.is_dir() else LocalFile(path)
    file = weights.fetch()
    if section.sha256 is not None:
        verify(file, section.sha256)
    arch = _letterboxed(_arch_beside(file), section)
    name, licence = f"{arch.name}@{sha256_of(file)[:SHORT]}{variant}", file_licence(file)
    return ClipSpec(name, arch, weights, file.name, licence, section.sha256)


def _names(version: str) -> tuple[str, ...]:
    """The published file, after what it may have been converted to."""
    return f"HPS_{version}_compressed.safetensors", f"HPS_{version}_compressed.pt"


def _arch_beside(file: Path) -> Arch:
    config = file.with_name(CONFIG_NAMES[0])
    # The home says that the activation is known: the file alone could be taken for one of OpenAI's.
    return read_arch(config) if config.is_file() else dataclasses.replace(find_arch(ARCH), home=file.parent)


def _letterboxed(arch: Arch, section: HpsV2Section) -> Arch:
    preprocess = {**arch.preprocess, "resize_mode": "letterbox", "antialias": section.antialias}
    return dataclasses.replace(arch, preprocess=preprocess)
