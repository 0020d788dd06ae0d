"""The graph `qualiclip` as a backend takes it; torch is imported only when it is built."""

from functools import partial
from typing import TYPE_CHECKING, Final

from plumbline_models.checkpoints.clip_spec import ClipSpec
from plumbline_models.checkpoints.digest import sha256_of
from plumbline_models.checkpoints.quality_prompts import QualityPrompts
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.graphs.fingerprint import CLIP_WEIGHTS, fingerprint
from plumbline_models.graphs.qualiclip_arch import MIN_SIDE_PX, TrunkArch

if TYPE_CHECKING:
    from plumbline_models.graphs.qualiclip import QualiClip

MAX_BATCH: Final = 4
MAX_SIDE_PX: Final = 4096
"""Some compilers set memory aside for the largest batch of the largest image."""
BATCH: Final = Dim("batch", low=1, typical=1, high=MAX_BATCH)
HEIGHT: Final = Dim("height", low=MIN_SIDE_PX, typical=384, high=MAX_SIDE_PX)
WIDTH: Final = Dim("width", low=MIN_SIDE_PX, typical=512, high=MAX_SIDE_PX)
_PARTS: Final = ("qualiclip", "qualiclip_arch", "qualiclip_graph", "qualiclip_trunk", "qualiclip_weights")
_TEXT_PARTS: Final = ("blocks", "clip_text", "text_tower", "tower_arch", "unit_norm")
_CODE: Final = (
    *(f"plumbline_models.graphs.{name}" for name in (*_PARTS, *_TEXT_PARTS)),
    *(f"plumbline_models.checkpoints.{name}" for name in ("qualiclip", "quality_prompts")),
    *(f"plumbline_models.text.{name}" for name in ("alignment", "byte_pairs", "cleaning", "clip_bpe", "long_words")),
    *CLIP_WEIGHTS,
)


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
        fingerprint=fingerprint(*facts, code=_CODE),
        build=partial(_build, spec, prompts, arch),
        output_shapes=((BATCH, len(prompts.pairs)),),
    )


def _build(spec: ClipSpec, prompts: QualityPrompts, arch: TrunkArch) -> "QualiClip":
    from plumbline_models.checkpoints.qualiclip import load_qualiclip  # noqa: PLC0415 - torch, when compiling
    from plumbline_models.graphs.qualiclip_weights import build_qualiclip  # noqa: PLC0415 - the same

    fit = spec.arch.fit_config
    return build_qualiclip(arch, load_qualiclip(spec, prompts), mean=fit["mean"], std=fit["std"])
