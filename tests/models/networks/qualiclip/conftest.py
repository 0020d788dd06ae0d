"""QualiCLIP checkpoints: the two of full size behind the golden numbers, rebuilt, and a tiny one of the same make."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from loadtests import goldens
from loadtests.goldens.quality_weights import checksums, spread_state_dict, vanilla_state_dict
from plumbline_models.core.arrays import Pixels
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.networks.clip.archs import Arch, find_arch, read_arch

GOLDEN = goldens.GOLDEN / "qualiclip"
AS_PUBLISHED = DecodePolicy(exif_orientation="ignore", alpha="drop")
TINY: Mapping[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def golden() -> Mapping[str, Any]:
    return json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def features() -> Mapping[str, NDArray[Any]]:
    with np.load(GOLDEN / "features.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def cases(golden: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All but the 16-bit one, which the authors' program clips to plain white and we do not."""
    return [case for case in golden["cases"] if "policy" not in case["tags"]]


@pytest.fixture(scope="session")
def images(cases: list[Mapping[str, Any]]) -> Mapping[str, Pixels]:
    """As the authors' program sees them, by case."""
    return {case["id"]: decode((GOLDEN / case["file"]).read_bytes(), AS_PUBLISHED) for case in cases}


@pytest.fixture(scope="session")
def rn50() -> Arch:
    return find_arch("RN50-quickgelu")


@pytest.fixture(scope="session")
def rebuilt(golden: Mapping[str, Any]) -> Mapping[str, Mapping[str, Tensor]]:
    """`vanilla` and `spread`, checked to be what the golden numbers were made with."""
    vanilla = vanilla_state_dict(golden["seed"])
    weights = {"vanilla": vanilla, "spread": spread_state_dict(vanilla, golden["seed"])}
    for name, state in weights.items():
        for tensor, (total, norm) in checksums(state).items():
            assert golden["weights"][name]["checksums"][tensor] == pytest.approx([total, norm], rel=1e-4, abs=1e-4)
    return weights


@pytest.fixture(scope="session")
def published(
    tmp_path_factory: pytest.TempPathFactory,
    rebuilt: Mapping[str, Mapping[str, Tensor]],
    features: Mapping[str, NDArray[Any]],
) -> Path:
    """The `spread` weights in the authors' layout."""
    file = tmp_path_factory.mktemp("qualiclip") / "qualiclip.pth"
    state: dict[str, Tensor] = {f"clip_model.{name}": tensor for name, tensor in rebuilt["spread"].items()}
    torch.save(state | {"prompts_features": torch.from_numpy(features["prompt_features_spread"])}, file)
    return file


def make_tiny() -> CLIP:
    """A small CLIP ResNet whose batch norms do something."""
    torch.manual_seed(11)
    clip = CLIP(TINY["embed_dim"], TINY["vision_cfg"], TINY["text_cfg"], quick_gelu=TINY["quick_gelu"])
    with torch.no_grad():
        for name, tensor in clip.visual.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif ("bn" in name or "downsample.1" in name) and tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
        clip.logit_scale.fill_(math.log(100))
    return clip.eval()


@pytest.fixture(scope="session")
def tiny_clip() -> CLIP:
    return make_tiny()


@pytest.fixture(scope="session")
def tiny_quality(tmp_path_factory: pytest.TempPathFactory, tiny_clip: CLIP) -> Path:
    """A folder of a tiny CLIP ResNet without prompt features."""
    folder = tmp_path_factory.mktemp("tiny-quality")
    (folder / "config.json").write_text(json.dumps({"model_cfg": TINY}), encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items() if name != "attn_mask"}
    save_file(state, folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_arch(tiny_quality: Path) -> Arch:
    return read_arch(tiny_quality / "config.json")


@pytest.fixture
def image() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (70, 101, 3), dtype=np.uint8)
