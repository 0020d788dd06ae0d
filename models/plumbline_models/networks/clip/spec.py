"""Which CLIP: an architecture and its weights, as a section of the configuration names them."""

import dataclasses
import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.networks.clip.activations import doubt_activation
from plumbline_models.networks.clip.archs import Arch, find_arch, is_known, read_arch, unknown_arch
from plumbline_models.networks.clip.beside import Beside
from plumbline_models.networks.clip.hugging_face_arch import PREPROCESSOR
from plumbline_models.networks.clip.tags import find_tag
from plumbline_models.weights.digest import SHORT, sha256_of, verify
from plumbline_models.weights.embedded import MINI_CLIP, embedded_folder
from plumbline_models.weights.licences import file_licence, hub_licence
from plumbline_models.weights.paths import FOLDER
from plumbline_models.weights.sources import (
    CONFIG_NAMES,
    WEIGHT_NAMES,
    HubFile,
    LocalFile,
    WeightsSource,
    find_in_folder,
    parse_hub_file,
    present_files,
)
from plumbline_models.weights.weight_files import check_weights, num_weights

log = logging.getLogger(__name__)
HUB: Final = "hf-hub:"


class ClipSection(BaseModel):
    """What a section may say about its CLIP; a scorer adds fields of its own.

    Nothing at all means the embedded `mini-clip`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: str | None = None
    """An open_clip name, `hf-hub:org/name`, `local-dir:FOLDER`, or an embedded name."""
    pretrained: str | None = None
    """One of open_clip's tags for the architecture."""
    checkpoint: Path | None = None
    """A file of weights, or a folder of open_clip's layout."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex digest that the weights must have."""
    image_checkpoint: Path | None = None
    """A file or folder with an image tower that takes the place of the weights' own, as un2CLIP's."""
    adapter: str | None = None
    """A folder or a hub name of LoRA as peft saves it, or a file of singular values: merged into the weights."""

    @model_validator(mode="after")
    def _name_one_source(self) -> Self:
        if self.pretrained is not None and self.checkpoint is not None:
            raise ValueError("give pretrained or checkpoint, not both")
        if self.image_checkpoint is not None and self.adapter is not None:
            raise ValueError("give image_checkpoint or adapter, not both: an adapter is merged into the weights' own")
        if self.arch is None:
            if self.pretrained is not None:
                raise ValueError("a pretrained tag needs an arch")
            return self
        has_source = self.pretrained is not None or self.checkpoint is not None
        is_complete = self.arch.startswith((HUB, FOLDER))
        if is_complete and has_source:
            raise ValueError(f"{self.arch} brings its own weights: leave out pretrained and checkpoint")
        if not is_complete and not has_source and embedded_folder(self.arch) is None:
            if not is_known(self.arch):
                raise ValueError(unknown_arch(self.arch).detail.rstrip("."))
            raise ValueError(f"{self.arch} needs weights: give pretrained or checkpoint")
        return self


@dataclass(frozen=True)
class ClipSpec:
    """A CLIP that can be loaded.

    Args:
        name: Stem of the keys of its encoders; equal for equal weights of one source.
        arch: The architecture.
        weights: Where the weights are.
        source: The same in words: a tag, a hub name, a file name, or `embedded`.
        licence: Of the weights, as far as it is known.
        sha256: What the weights' file must hash to; None where the configuration does not say.
        beside: What changes the weights before they are compiled.
    """

    name: str
    arch: Arch
    weights: WeightsSource
    source: str
    licence: str = "unknown"
    sha256: str | None = None
    beside: Beside = field(default_factory=Beside)

    @classmethod
    def of(cls, section: ClipSection) -> "ClipSpec":
        """Find what a section names; reads configurations, hashes local weights, loads none.

        Raises:
            UnknownArchError: open_clip has no such architecture, or no such tag for it.
            CheckpointNotFoundError: There is no such file or folder, or the hub cannot be reached for a configuration.
            ChecksumError: A local file is not the one that `sha256` names.
        """
        return _changed(_of_source(section), Beside.of(section.image_checkpoint, section.adapter))

    @property
    def digest(self) -> str:
        """Hex sha256 of the weights, or over theirs and those of what changes them.

        Raises:
            CheckpointNotFoundError: One of the files is missing.
        """
        own = sha256_of(self.fetch())
        return _digest(own, *map(sha256_of, self.beside.files)) if self.beside else own

    @property
    def as_transformers(self) -> "ClipSpec":
        """The same towers, with texts cleaned and images cropped as the transformers library's processor does."""
        arch = dataclasses.replace(
            self.arch, preprocess={**self.arch.preprocess, "text": "transformers", "crop": "down"}
        )
        return dataclasses.replace(self, name=f"{self.name}+transformers", arch=arch)

    @property
    def origin(self) -> Origin:
        """Where the weights come from, in words."""
        return Origin(self.source, self.licence, self.weights.is_present)

    def num_weights(self, kind: EncoderKind) -> int | None:
        """Of an encoder of that kind, as `weight_files.num_weights` counts them."""
        return num_weights(present_files(self.weights), kind)

    def check(self, seek: Seek) -> None:
        """Look at the weights' file as far as its header tells.

        Raises:
            CheckpointError: It cannot be had, is another than `sha256` says, or is not usable.
        """
        if isinstance(self.weights, HubFile) and seek != "fetch" and not self.weights.is_present:
            if seek == "anywhere":
                self.weights.check_access()
            return
        self.beside.check()
        names = check_weights(self.fetch()) or ()
        doubt_activation(names, weights=self.weights, arch=self.arch, source=self.source)

    def fetch(self) -> Path:
        """The weights' file on this machine, checked against `sha256` where that is known.

        Raises:
            CheckpointNotFoundError: There is none, and none can be fetched.
            ChecksumError: It is another.
        """
        file = self.weights.fetch()
        if self.sha256 is not None:
            verify(file, self.sha256)
        return file


def _of_source(section: ClipSection) -> ClipSpec:
    arch, checkpoint = section.arch, section.checkpoint
    if arch is not None and arch.startswith(HUB):
        return _of_hub(arch.removeprefix(HUB), section.sha256)
    if arch is not None and arch.startswith(FOLDER):
        return _of_folder(Path(arch.removeprefix(FOLDER)).expanduser(), section.sha256)
    if arch is not None and section.pretrained is not None:
        return _of_tag(find_arch(arch), section.pretrained, section.sha256)
    if checkpoint is not None:
        return _of_checkpoint(arch, checkpoint.expanduser(), section.sha256)
    return _of_embedded(arch or MINI_CLIP, section.sha256)


def _changed(spec: ClipSpec, beside: Beside) -> ClipSpec:
    """The same CLIP, named by what changes its weights as well."""
    if not beside:
        return spec
    return dataclasses.replace(
        spec,
        name=f"{spec.name}+{_digest(*map(sha256_of, beside.files))[:SHORT]}",
        arch=dataclasses.replace(spec.arch, epsilon=None),  # it was measured for the weights as they are
        source=" + ".join((spec.source, *beside.names)),
        licence=", ".join(dict.fromkeys((spec.licence, beside.licence))),
        beside=beside,
    )


def _digest(*digests: str) -> str:
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def _of_hub(repository: str, sha256: str | None) -> ClipSpec:
    config = HubFile(repository, CONFIG_NAMES).fetch()
    if config.name == CONFIG_NAMES[-1]:  # of the transformers library, perhaps: then the rest is in a second file
        HubFile(repository, (PREPROCESSOR,)).find()
    arch = read_arch(config)
    named = dataclasses.replace(arch, name=repository)
    source, licence = f"{HUB}{repository}", hub_licence(repository)
    return ClipSpec(repository, named, HubFile(repository, WEIGHT_NAMES), source, licence, sha256)


def _of_tag(arch: Arch, tag: str, sha256: str | None) -> ClipSpec:
    entry = find_tag(arch.name, tag)
    if entry.has_quick_gelu != arch.has_quick_gelu:
        log.warning(
            "The weights %s of %s were trained %s QuickGELU and the architecture computes %s it: scores will be off. "
            "Use the architecture whose name %s -quickgelu.",
            tag,
            arch.name,
            *(("with", "without", "ends in") if entry.has_quick_gelu else ("without", "with", "lacks")),
        )
    weights = parse_hub_file(entry.hub)
    licence = hub_licence(weights.repository)
    resized = dataclasses.replace(arch, preprocess=entry.preprocess)
    return ClipSpec(f"{arch.name}@{tag}", resized, weights, tag, licence, sha256)


def _of_folder(folder: Path, sha256: str | None) -> ClipSpec:
    arch = read_arch(find_in_folder(folder, CONFIG_NAMES).path)
    spec = _of_file(arch, find_in_folder(folder, WEIGHT_NAMES), sha256)
    # The folder says itself how images are preprocessed: equal weights under equal names may compute something else.
    facts = f"{sha256_of(spec.fetch())} {arch.canonical}"
    return dataclasses.replace(spec, name=f"{arch.name}@{hashlib.sha256(facts.encode()).hexdigest()[:SHORT]}")


def _of_checkpoint(name: str | None, checkpoint: Path, sha256: str | None) -> ClipSpec:
    if name is None:
        if checkpoint.is_file():
            raise ConfigError("A checkpoint file needs an arch; only a folder says its own.", path=str(checkpoint))
        return _of_folder(checkpoint, sha256)
    embedded = embedded_folder(name)
    arch = find_arch(name) if embedded is None else read_arch(find_in_folder(embedded, CONFIG_NAMES).path)
    arch = dataclasses.replace(arch, epsilon=None)  # it was measured for the embedded weights
    weights = find_in_folder(checkpoint, WEIGHT_NAMES) if checkpoint.is_dir() else LocalFile(checkpoint)
    return _of_file(arch, weights, sha256)


def _of_file(arch: Arch, weights: LocalFile, sha256: str | None) -> ClipSpec:
    file = weights.fetch()
    if sha256 is not None:
        verify(file, sha256)
    return ClipSpec(f"{arch.name}@{sha256_of(file)[:SHORT]}", arch, weights, file.name, file_licence(file), sha256)


def _of_embedded(name: str, sha256: str | None) -> ClipSpec:
    folder = embedded_folder(name)
    if folder is None:
        raise CheckpointNotFoundError(f"The package holds no embedded {name}.", name=name)
    arch = read_arch(find_in_folder(folder, CONFIG_NAMES).path)
    weights = find_in_folder(folder, WEIGHT_NAMES)
    return ClipSpec(name, dataclasses.replace(arch, name=name), weights, "embedded", "Apache-2.0", sha256)
