"""The published tensors of a CLIP-FlanT5, put where our graphs keep them; numpy alone."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.flant5.arch import T5Arch
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.tower_state import Named, affine, tower_state
from plumbline_models.weights.shards import Shards

TOKEN_TABLES: Final = (
    "shared.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "embed_tokens.weight",
)
"""One table under up to four names; any may be missing, the first that is there is read."""


def image_state(checkpoint: FlanT5Checkpoint) -> Iterator[Named]:
    """The tensors of `FlanT5Image`, by its names.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    arch, own = checkpoint.tower_arch, checkpoint.shards
    width = arch.projected_width
    yield from tower_state(checkpoint.tower_shards, arch)
    yield from affine(own, "mm_projector.0", "project_in", (width, arch.width))
    yield from affine(own, "mm_projector.2", "project_out", (width, width))


def score_state(checkpoint: FlanT5Checkpoint) -> Iterator[Named]:
    """The tensors of `FlanT5Score`, by its names.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    shards, arch = checkpoint.shards, checkpoint.t5_arch
    table = next((name for name in TOKEN_TABLES if name in shards), None)
    if table is None:
        raise StateDictError("The checkpoint has no token table.", looked_for=TOKEN_TABLES)
    yield "tokens", shards.read_rows(table, arch.num_tokens, arch.width)
    yield "vocabulary.weight", shards.read_rows("lm_head.weight", arch.num_tokens, arch.width)
    for stack, num_blocks in (("encoder", arch.num_encoder_blocks), ("decoder", arch.num_decoder_blocks)):
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        buckets = shards.read(name, (arch.num_buckets, arch.num_heads))
        spread = bucket_of_distances(arch.num_buckets, arch.max_distance, is_causal=stack == "decoder")
        yield f"{stack}_bias.table", np.ascontiguousarray(buckets[spread].T)
        yield f"{stack}_norm.weight", shards.read(f"{stack}.final_layer_norm.weight", (arch.width,))
        for index in range(num_blocks):
            source, target = f"{stack}.block.{index}.layer.", f"{stack}_blocks.{index}."
            yield from _self_attention(shards, f"{source}0.", f"{target}attention.", arch)
            if stack == "decoder":
                yield from _cross_attention(shards, f"{source}1.", f"{target}cross.", arch)
            yield from _ffn(shards, f"{source}{2 if stack == 'decoder' else 1}.", f"{target}ffn.", arch)


def _self_attention(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[Named]:
    shape = (arch.inner_width, arch.width)
    parts = [shards.read(f"{source}SelfAttention.{part}.weight", shape) for part in "qkv"]
    yield f"{target}query_key_value.weight", np.concatenate(parts)
    yield f"{target}out.weight", shards.read(f"{source}SelfAttention.o.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))


def _cross_attention(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[Named]:
    shape = (arch.inner_width, arch.width)
    heads = (arch.num_heads, arch.head_width, arch.width)
    yield f"{target}query.weight", shards.read(f"{source}EncDecAttention.q.weight", shape)
    yield f"{target}key", shards.read(f"{source}EncDecAttention.k.weight", shape).reshape(heads)
    value = shards.read(f"{source}EncDecAttention.v.weight", shape).reshape(heads)
    yield f"{target}value", np.ascontiguousarray(value.transpose(0, 2, 1))
    yield f"{target}out.weight", shards.read(f"{source}EncDecAttention.o.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))


def _ffn(shards: Shards, source: str, target: str, arch: T5Arch) -> Iterator[Named]:
    shape = (arch.ffn_width, arch.width)
    gates = [shards.read(f"{source}DenseReluDense.wi_{index}.weight", shape) for index in (0, 1)]
    yield f"{target}gate_and_value.weight", np.concatenate(gates)
    yield f"{target}down.weight", shards.read(f"{source}DenseReluDense.wo.weight", shape[::-1])
    yield f"{target}norm.weight", shards.read(f"{source}layer_norm.weight", (arch.width,))


def bucket_of_distances(num_buckets: int, max_distance: int, *, is_causal: bool) -> list[int]:
    """The bucket of each distance, from the farthest before to the farthest after.

    Args:
        num_buckets: Of the stored table.
        max_distance: In tokens; from here on the last bucket holds.
        is_causal: Decoder tables have no buckets for what comes later; distances above 0 get bucket 0.
    """
    distances = range(-max_distance, max_distance + 1)
    return [_bucket_of(distance, num_buckets, max_distance, is_causal=is_causal) for distance in distances]


def _bucket_of(distance: int, num_buckets: int, max_distance: int, *, is_causal: bool) -> int:
    offset = 0
    if not is_causal:
        num_buckets //= 2
        offset = num_buckets if distance > 0 else 0
    steps = max(-distance, 0) if is_causal else abs(distance)
    num_exact = num_buckets // 2
    if steps < num_exact:
        return offset + steps
    # Half of the buckets hold one distance each, the others grow with its logarithm.
    growth = math.log(steps / num_exact) / math.log(max_distance / num_exact)
    return offset + min(num_exact + int(growth * (num_buckets - num_exact)), num_buckets - 1)
