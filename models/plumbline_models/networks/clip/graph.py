"""The graphs of a CLIP as a backend takes them; torch is imported only when one is built."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import UnknownArchError
from plumbline_models.core.graph import Dim, Graph, ShippedForm, TensorSpec
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.networks.clip.arch import ImageArch, TextArch
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.hub_towers import text_facts, text_settings
from plumbline_models.networks.clip.pixels import fit_pixels, pixel_type, white
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.fingerprint import fingerprint
from plumbline_models.weights.embedded import EMBEDDED, shipped_form
from plumbline_models.weights.mapped import MappedTensors

if TYPE_CHECKING:
    from torch import nn

MAX_BATCH: Final = 64
"""Inputs that one run may have."""
BATCH: Final = Dim("batch", low=1, typical=8, high=MAX_BATCH)
TYPICAL_TOKENS: Final = 16
"""Most prompts are shorter than this."""
_PACKAGES: Final = ("networks.clip", "weights")
_SMALL_IMAGE: Final = {"image_size": 32, "patch_size": 32, "width": 64, "head_width": 64, "layers": 1}
_SMALL_TEXT: Final = {"context_length": 2, "vocab_size": 2, "width": 64, "heads": 1, "layers": 1}


def clip_image_graph(spec: ClipSpec) -> Graph:
    """`pixels` `[N, H, W, 3]`, as `fit_pixels` gives them, to `image_embedding` float32 `[N, D]` of unit norm.

    Raises:
        CheckpointError: The weights cannot be had; what is wrong inside of them shows when the graph is built.
    """
    height, width = spec.arch.image_size_px
    preprocess = PreprocessSpec.from_config(spec.arch.preprocess_config)
    return Graph(
        name="clip_image",
        inputs=(TensorSpec("pixels", pixel_type(preprocess), (BATCH, height, width, 3)),),
        outputs=("image_embedding",),
        fingerprint=_fingerprint("clip_image", spec, has_own_tower=spec.arch.has_clip_image),
        build=partial(_build_image, spec),
        output_shapes=((BATCH, spec.arch.embed_dim),),
        preprocess=partial(_preprocess, preprocess),
        shipped=shipped_clip(spec, "clip_image"),
    )


def clip_text_graph(spec: ClipSpec) -> Graph:
    """`token_ids` int64 `[N, L]`, padded on the right with 0, to `text_embedding` float32 `[N, D]` of unit norm.

    CLIP's own text tower takes any L up to the context length and gives the same for each that holds the text;
    other towers take the context length only.

    Raises:
        CheckpointError: The weights cannot be had; what is wrong inside of them shows when the graph is built.
    """
    context = spec.arch.context_length
    length = Dim("length", low=2, typical=min(TYPICAL_TOKENS, context), high=context)
    shape = (BATCH, length if spec.arch.has_clip_text else context)
    return Graph(
        name="clip_text",
        inputs=(TensorSpec("token_ids", "int64", shape, num_ids=num_token_ids(spec.arch)),),
        outputs=("text_embedding",),
        fingerprint=_fingerprint("clip_text", spec, *text_facts(spec.arch), has_own_tower=spec.arch.has_clip_text),
        build=partial(_build_text, spec),
        output_shapes=((BATCH, spec.arch.embed_dim),),
        fillable=frozenset({BATCH.name}),
        shipped=shipped_clip(spec, "clip_text"),
    )


def shipped_clip(spec: ClipSpec, name: str) -> ShippedForm | None:
    """Where the exported form of a graph of that CLIP came with its weights.

    Args:
        spec: The CLIP.
        name: Of the graph.
    """
    if spec.source != EMBEDDED:
        return None
    file = spec.fetch()
    return shipped_form(file, name, partial(MappedTensors, file))


def num_token_ids(arch: Arch) -> int | None:
    """Of the text tower's vocabulary, where it is CLIP's own."""
    return TextArch.of(arch).num_tokens if arch.has_clip_text else None


def _fingerprint(name: str, spec: ClipSpec, *more: str, has_own_tower: bool) -> str:
    library = () if has_own_tower else ("open_clip_torch",)  # which builds the towers that are not ours
    libraries = (*library, "transformers") if more else library
    facts = (name, spec.digest, spec.arch.canonical, *more)
    return fingerprint(*facts, packages=_PACKAGES, libraries=libraries)


def _preprocess(spec: PreprocessSpec, image: Pixels) -> Mapping[str, Array]:
    return {"pixels": fit_pixels(image, spec)[None]}


# Below, imports stand inside: a process that finds its engines in the cache never imports torch.


def _build_image(spec: ClipSpec) -> "nn.Module":
    from plumbline_models.networks.clip.image_tower import ClipImage  # noqa: PLC0415
    from plumbline_models.networks.clip.state_dicts import fill  # noqa: PLC0415
    from plumbline_models.networks.clip.weights import load_clip  # noqa: PLC0415

    tower = _image_tower(spec.arch)
    fill(tower, load_clip(spec).image, name="image")
    preprocess = PreprocessSpec.from_config(spec.arch.preprocess_config)
    return ClipImage(tower, mean=preprocess.mean, std=preprocess.std, white=white(preprocess)).eval()


def _image_tower(arch: Arch) -> "nn.Module":
    import torch  # noqa: PLC0415

    if arch.is_siglip:
        from plumbline_models.networks.clip.siglip_towers import SiglipImageTower  # noqa: PLC0415

        with torch.device("meta"):
            return SiglipImageTower(ImageArch.of(arch))
    if not arch.has_clip_image:
        tower: nn.Module = _open_clip(arch, vision=arch.vision, text=_SMALL_TEXT).visual
        return tower
    from plumbline_models.networks.clip.image_tower import ImageTower  # noqa: PLC0415

    with torch.device("meta"):  # no memory: the checkpoint's tensors take the place of the parameters
        return ImageTower(ImageArch.of(arch))


def _build_text(spec: ClipSpec) -> "nn.Module":
    from plumbline_models.networks.clip.state_dicts import fill  # noqa: PLC0415
    from plumbline_models.networks.clip.text_tower import ClipText  # noqa: PLC0415
    from plumbline_models.networks.clip.weights import load_clip  # noqa: PLC0415

    tower = _text_tower(spec.arch)
    fill(tower, load_clip(spec).text, name="text")
    return ClipText(tower).eval()


def _text_tower(arch: Arch) -> "nn.Module":
    import torch  # noqa: PLC0415

    if arch.is_siglip:
        from plumbline_models.networks.clip.siglip_towers import SiglipTextTower  # noqa: PLC0415

        with torch.device("meta"):
            return SiglipTextTower(TextArch.of(arch))
    if not arch.has_clip_text:
        tower: nn.Module = _open_clip(arch, vision=_SMALL_IMAGE, text=text_settings(arch)).text
        return tower
    from plumbline_models.networks.clip.text_tower import TextTower  # noqa: PLC0415

    with torch.device("meta"):
        return TextTower(TextArch.of(arch))


def _open_clip(arch: Arch, *, vision: Mapping[str, Any], text: Mapping[str, Any]) -> Any:
    """A CLIP of open_clip's without weights, whose text tower is a module of its own.

    open_clip builds both towers. The one that is not wanted is built as small as it can be and dropped: for the largest
    architectures that saves gigabytes.

    Raises:
        UnknownArchError: open_clip, timm or transformers cannot build it.
    """
    import open_clip  # noqa: PLC0415

    try:
        # False: else weights of other tasks are fetched, only to be overwritten.
        vision_cfg = open_clip.CLIPVisionCfg(**{**vision, "timm_model_pretrained": False})
        text_cfg = open_clip.CLIPTextCfg(**{**text, "hf_model_pretrained": False})
        return open_clip.CustomTextCLIP(arch.embed_dim, vision_cfg, text_cfg, quick_gelu=arch.has_quick_gelu)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, OSError) as error:
        raise UnknownArchError(f"open_clip cannot build the towers of {arch.name}.", arch=arch.name) from error
