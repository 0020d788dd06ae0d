"""CLIPs to test with: two of full size, whose golden numbers we hold, and a tiny one of the same make."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from loadtests import goldens
from loadtests.goldens.clip_weights import make_weights, weights_sha256
from plumbline_models.core.arrays import Pixels
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.networks.clip.arch import ImageArch, TextArch
from plumbline_models.networks.clip.archs import Arch, find_arch
from plumbline_models.networks.clip.image_tower import ImageTower
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.text_tower import TextTower

GOLDEN = goldens.GOLDEN / "fclipscore"
PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
AS_PUBLISHED = DecodePolicy(exif_orientation="ignore", alpha="drop")
TINY: Mapping[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2], "resize_mode": "squash"},
}
TINY_SEED = 7


@dataclass(frozen=True)
class GoldenClip:
    """Golden numbers, and a checkpoint that gives them."""

    name: str
    checkpoint: Path

    @cached_property
    def golden(self) -> Mapping[str, Any]:
        """The whole file of golden numbers."""
        record: Mapping[str, Any] = json.loads((GOLDEN / f"{self.name}.json").read_text(encoding="utf-8"))
        return record

    @property
    def cases(self) -> list[Mapping[str, Any]]:
        """One for each pair of image and caption."""
        cases: list[Mapping[str, Any]] = self.golden["cases"]
        return cases

    @cached_property
    def image_embeddings(self) -> Mapping[str, NDArray[np.float32]]:
        """Unit norm, by image."""
        with np.load(GOLDEN / f"{self.name}_image_embeds.npz") as stored:
            return dict(stored)

    @property
    def options(self) -> dict[str, str]:
        """The section of a configuration that means it."""
        return {"arch": self.golden["arch"], "checkpoint": str(self.checkpoint)}

    @property
    def spec(self) -> ClipSpec:
        """What the section names."""
        return ClipSpec.of(ClipSection.model_validate(self.options))

    def text_of(self, case: Mapping[str, Any]) -> str:
        """What the official program tokenises."""
        return f"{self.golden['template']}{case['caption']}"


def build_golden(name: str, folder: Path) -> GoldenClip:
    """Make the weights and check that they are those of the golden numbers.

    Args:
        name: Of a file of golden numbers, without its ending.
        folder: Receives the checkpoint.

    Raises:
        RuntimeError: They are other weights.
    """
    clip = GoldenClip(name, folder / f"{name}.safetensors")
    weights = make_weights(shapes_of(find_arch(clip.golden["arch"])), clip.golden["seed"])
    if weights_sha256(weights) != clip.golden["weights_sha256"]:
        raise RuntimeError(f"The weights made for {name} are not those of its golden numbers.")
    save_file(weights, clip.checkpoint)
    return clip


def build_tiny(folder: Path) -> Path:
    """A folder of open_clip's layout with a CLIP of a few thousand weights beside its token table."""
    (folder / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    arch = Arch("tiny", TINY["model_cfg"])
    save_file(make_weights(shapes_of(arch), TINY_SEED), folder / "open_clip_model.safetensors")
    return folder


def shapes_of(arch: Arch) -> dict[str, tuple[int, ...]]:
    """Of every tensor of a CLIP, under open_clip's names."""
    with torch.device("meta"):
        text, image = TextTower(TextArch.of(arch)), ImageTower(ImageArch.of(arch))
    shapes = {name: tuple(value.shape) for name, value in text.state_dict().items()}
    shapes |= {f"visual.{name}": tuple(value.shape) for name, value in image.state_dict().items()}
    return {**shapes, "logit_scale": ()}


def golden_image(name: str) -> Pixels:
    """An image of scikit-image's, decoded as the papers' own programs do."""
    return decode((PHOTOGRAPHS / name).read_bytes(), AS_PUBLISHED)
