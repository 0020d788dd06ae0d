"""The graph `qualiclip` as a backend takes it; torch is imported only when it is built."""

from functools import partial
from typing import TYPE_CHECKING, Final

from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.networks.qualiclip.arch import MIN_SIDE_PX, TrunkArch
from plumbline_models.networks.qualiclip.prompts import QualityPrompts
from plumbline_models.weights.digest import sha256_of

if TYPE_CHECKING:
    from plumbline_models.networks.qualiclip.module import QualiClip

MAX_BATCH: Final = 4
MAX_SIDE_PX: Final = 4096
"""Some compilers set memory aside for the largest batch of the largest image."""
BATCH: Final = Dim("batch", low=1, typical=1, high=MAX_BATCH)
HEIGHT: Final = Dim("height", low=MIN_SIDE_PX, typical=384, high=MAX_SIDE_PX)
WIDTH: Final = Dim("width", low=MIN_SIDE_PX, typical=512, high=MAX_SIDE_PX)
_PACKAGES: Final = ("networks.qualiclip", "networks.clip", "weights")


def qualiclip_graph(spec: ClipSpec, prompts: QualityPrompts) -> Graph:
    """`pixels` uint8 `[N, H, W, 3]` of any size to `margins` float32 `[N, P]`.

    Raises:
        UnknownArchError: The image tower is no CLIP ResNet.
        CheckpointError: The weights cannot be had; what is wrong inside of them shows when the graph is built.
    """
    arch = TrunkArch.of(spec.arch)
    facts = ("qualiclip", sha256_of(spec.fetch()), spec.arch.canonical, prompts.canonical)
    return Graph(
        name="qualiclip",
        inputs=(TensorSpec("pixels", "uint8", (BATCH, HEIGHT, WIDTH, 3)),),
        outputs=("margins",),
        fingerprint=fingerprint(*facts, packages=_PACKAGES),
        build=partial(_build, spec, prompts, arch),
        output_shapes=((BATCH, len(prompts.pairs)),),
    )


def _build(spec: ClipSpec, prompts: QualityPrompts, arch: TrunkArch) -> "QualiClip":
    from plumbline_models.networks.qualiclip.folding import build_qualiclip  # noqa: PLC0415 - the same
    from plumbline_models.networks.qualiclip.weights import load_qualiclip  # noqa: PLC0415 - torch, when compiling

    config = spec.arch.preprocess_config
    return build_qualiclip(arch, load_qualiclip(spec, prompts), mean=config["mean"], std=config["std"])
