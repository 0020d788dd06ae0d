"""The published tensors of a CLIP-FlanT5, put where our graphs keep them."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.flant5.arch import T5Arch, TowerArch
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.layers import spread_buckets
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_models.networks.flant5.tower_weights import affine, tower_state
from plumbline_models.weights.shards import Shards

TOKEN_TABLES: Final = (
    "shared.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "embed_tokens.weight",
)
"""One table under up to four names; any may be missing, the first that is there is read."""


def build_image_graph(checkpoint: FlanT5Checkpoint) -> FlanT5Image:
    """The tower and projector with the checkpoint's weights, float32, in eval mode.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    arch = checkpoint.tower_arch
    with torch.device("meta"):
        graph = FlanT5Image(arch)
    _fill(graph, dict(_image_state(checkpoint, arch)))
    return graph


def build_score_graph(checkpoint: FlanT5Checkpoint, rival_id: int) -> FlanT5Score:
    """The encoder and decoder with the checkpoint's weights, float32, in eval mode.

    Args:
        checkpoint: Whose weights.
        rival_id: First token of the answer to compare with.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    arch = checkpoint.t5_arch
    with torch.device("meta"):
        graph = FlanT5Score(arch, rival_id)
    _fill(graph, dict(_score_state(checkpoint.shards, arch)))
    return graph


def _fill(graph: torch.nn.Module, state: dict[str, Tensor]) -> None:
    graph.load_state_dict(state, assign=True)
    graph.requires_grad_(requires_grad=False).eval()


def _image_state(checkpoint: FlanT5Checkpoint, arch: TowerArch) -> Iterator[tuple[str, Tensor]]:
    own, width = checkpoint.shards, arch.projected_width
    yield from tower_state(checkpoint.tower_shards, arch)
    yield from affine(own, "mm_projector.0", "project_in", (width, arch.width))
    yield from affine(own, "mm_projector.2", "project_out", (width, width))


def _score_state(shards: Shards, arch: T5Arch) -> Iterator[tuple[str, Tensor]]:
    table = next((name for name in TOKEN_TABLES if name in shards), None)
    if table is None:
        raise StateDictError("The checkpoint has no token table.", looked_for=TOKEN_TABLES)
    yield "tokens", shards.read_rows(table, arch.num_tokens, arch.width)
    yield "vocabulary.weight", shards.read_rows("lm_head.weight", arch.num_tokens, arch.width)
    for stack, num_blocks in (("encoder", arch.num_encoder_blocks), ("decoder", arch.num_decoder_blocks)):
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        buckets = shards.read(name, (arch.num_buckets, arch.num_heads))
        yield f"{stack}_bias.table", spread_buckets(buckets, arch.max_distance, is_causal=stack == "decoder")
        yield f"{stack}_norm.weight", shards.read(f"{stack}.final_layer_norm.weight", (arch.width,))
        for index in range(num_blocks):
            source, target = f"{stack}.block.{index}.layer.", f"{stack}_blocks.{index}."
            yield from _self_attention(shards, f"{source}0.", f"{target}attention.", arch)
            if stack == "decoder":
                yield from _cross_attention(shards, f"{source}1.", f"{target}cross.", arch)
            yield from _ffn(shards, f"{source}{2 if stack == 'decoder' else 1}.", f"{target}ffn.", arch)


def _self_attention(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[tuple[str, Tensor]]:
    shape = (arch.inner_width, arch.width)
    parts = [shards.read(f"{source}SelfAttention.{part}.weight", shape) for part in "qkv"]
    yield f"{target}query_key_value.weight", torch.cat(parts)
    yield f"{target}out.weight", shards.read(f"{source}SelfAttention.o.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))


def _cross_attention(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[tuple[str, Tensor]]:
    shape = (arch.inner_width, arch.width)
    heads = (arch.num_heads, arch.head_width, arch.width)
    yield f"{target}query.weight", shards.read(f"{source}EncDecAttention.q.weight", shape)
    yield f"{target}key", shards.read(f"{source}EncDecAttention.k.weight", shape).reshape(heads)
    value = shards.read(f"{source}EncDecAttention.v.weight", shape).reshape(heads)
    yield f"{target}value", value.transpose(1, 2).contiguous()
    yield f"{target}out.weight", shards.read(f"{source}EncDecAttention.o.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))


def _ffn(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[tuple[str, Tensor]]:
    shape = (arch.ffn_width, arch.width)
    gates = [shards.read(f"{source}DenseReluDense.wi_{index}.weight", shape) for index in (0, 1)]
    yield f"{target}gate_and_value.weight", torch.cat(gates)
    yield f"{target}down.weight", shards.read(f"{source}DenseReluDense.wo.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))
