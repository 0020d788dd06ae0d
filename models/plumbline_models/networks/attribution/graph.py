"""The two graphs of F-CLIPScore as a backend takes them; torch is imported only when one is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.networks.clip.graph import num_token_ids, shipped_clip
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    from torch import nn

    from plumbline_models.networks.attribution.traced_tower import TracedTower

MAX_CAPTIONS: Final = 64
MAX_PAIRS: Final = 256
_CAPTIONS: Final = Dim("captions", low=1, typical=4, high=MAX_CAPTIONS)
_PAIRS: Final = Dim("pairs", low=1, typical=16, high=MAX_PAIRS)
_PACKAGES: Final = ("networks.attribution", "networks.clip", "weights")


Outputs: TypeAlias = Mapping[str, tuple[int | Dim, ...]]


@dataclass(frozen=True, slots=True)
class AttributionSpec:
    """Which attributions.

    Args:
        clip: Whose text tower; it must be CLIP's own.
        prefix_ids: Tokens that every caption begins with, start-of-text first.
        num_blocks: How many of the last blocks are averaged.
    """

    clip: ClipSpec
    prefix_ids: tuple[int, ...]
    num_blocks: int


def attribution_graph(spec: AttributionSpec) -> Graph:
    """Captions, and pairs of them with images, to unit text embeddings `[N, D]` and attributions `[N, J]` of the pairs.

    Inputs: `token_ids` int64 `[T, L]`, captions behind the prefix; `caption_indices` int64 `[N]`; `image_embeddings`
    float32 `[N, D]` of unit norm.
    """
    dim = spec.clip.arch.embed_dim
    images = TensorSpec("image_embeddings", "float32", (_PAIRS, dim))
    inputs = (_token_ids(spec), TensorSpec("caption_indices", "int64", (_PAIRS,)), images)
    outputs: Outputs = {"pair_caption": (_PAIRS, dim), "pair_attribution": (_PAIRS, _columns(spec))}
    return _graph(spec, "clip_text_attribution", inputs, outputs, _build_attribution)


def vectors_graph(spec: AttributionSpec) -> Graph:
    """Captions to unit embeddings `[T, D]` and attribution vectors `[T, J, D]`; input as above, without the pairs."""
    dim = spec.clip.arch.embed_dim
    outputs: Outputs = {"caption_embedding": (_CAPTIONS, dim), "caption_vectors": (_CAPTIONS, _columns(spec), dim)}
    return _graph(spec, "clip_text_vectors", (_token_ids(spec),), outputs, _build_vectors)


def _token_ids(spec: AttributionSpec) -> TensorSpec:
    room = spec.clip.arch.context_length - len(spec.prefix_ids)
    shape = (_CAPTIONS, Dim("length", low=2, typical=min(16, room), high=room))
    return TensorSpec("token_ids", "int64", shape, num_ids=num_token_ids(spec.clip.arch))


def _columns(spec: AttributionSpec) -> Dim:
    """J of the outputs: as many as prefix and captions have tokens."""
    context = spec.clip.arch.context_length
    return Dim("columns", low=len(spec.prefix_ids) + 2, typical=context, high=context)


def _graph(
    spec: AttributionSpec,
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: Outputs,
    build: "Callable[[AttributionSpec], nn.Module]",
) -> Graph:
    facts = (name, spec.clip.digest, spec.clip.arch.canonical, repr((spec.prefix_ids, spec.num_blocks)))
    return Graph(
        name=name,
        inputs=inputs,
        outputs=tuple(outputs),
        fingerprint=fingerprint(*facts, packages=_PACKAGES),
        build=partial(build, spec),
        output_shapes=tuple(outputs.values()),
        fillable=frozenset({_CAPTIONS.name, _PAIRS.name}),
        shipped=shipped_clip(spec.clip, name),
    )


# Below, imports stand inside: a process that finds its engines in the cache never imports torch.


def _build_attribution(spec: AttributionSpec) -> "nn.Module":
    from plumbline_models.networks.attribution.gradient_module import ClipTextAttribution  # noqa: PLC0415

    return ClipTextAttribution(_traced_tower(spec)).eval()


def _build_vectors(spec: AttributionSpec) -> "nn.Module":
    from plumbline_models.networks.attribution.jacobian_module import ClipTextVectors  # noqa: PLC0415

    return ClipTextVectors(_traced_tower(spec)).eval()


def _traced_tower(spec: AttributionSpec) -> "TracedTower":
    import torch  # noqa: PLC0415

    from plumbline_models.networks.attribution.traced_tower import TracedTower  # noqa: PLC0415
    from plumbline_models.networks.clip.arch import TextArch  # noqa: PLC0415
    from plumbline_models.networks.clip.state_dicts import fill  # noqa: PLC0415
    from plumbline_models.networks.clip.text_tower import TextTower  # noqa: PLC0415
    from plumbline_models.networks.clip.weights import load_clip  # noqa: PLC0415

    with torch.device("meta"):  # no memory: the checkpoint's tensors take the place of the parameters
        tower = TextTower(TextArch.of(spec.clip.arch))
    fill(tower, load_clip(spec.clip).text, name="text")
    return TracedTower(tower, torch.tensor(spec.prefix_ids, dtype=torch.int64), spec.num_blocks)
