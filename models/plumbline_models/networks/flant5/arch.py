"""The sizes of a CLIP-FlanT5: image tower, projector, T5 encoder and decoder; plain numbers, no framework."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TowerArch:
    """A CLIP vision transformer, cut after the block whose output is used, and the projector behind it."""

    image_px: int
    """Side of the square input, pixels."""
    patch_px: int
    width: int
    num_blocks: int
    """Blocks that run: `hidden_states[-2]` of a tower of 24 is the output of 23."""
    num_heads: int
    ffn_width: int
    norm_epsilon: float
    has_quick_gelu: bool
    mean: tuple[float, float, float]
    """Of pixels in 0..1, red, green, blue."""
    std: tuple[float, float, float]
    projected_width: int

    @property
    def num_patches(self) -> int:
        """Rows that one image adds to the encoder's input."""
        return (self.image_px // self.patch_px) ** 2


@dataclass(frozen=True, slots=True)
class T5Arch:
    """A T5 version 1.1 encoder-decoder with gated feed-forward layers and an untied head."""

    width: int
    head_width: int
    num_heads: int
    ffn_width: int
    num_encoder_blocks: int
    num_decoder_blocks: int
    num_buckets: int
    """Relative-position buckets, of both stacks."""
    max_distance: int
    """From this distance on, in tokens, all positions share the last bucket."""
    norm_epsilon: float
    num_tokens: int
    """Scored vocabulary: the tokenizer's length, not the rows that the checkpoint stores."""
    start_id: int
    """What the decoder reads at its first position."""

    @property
    def inner_width(self) -> int:
        """All heads side by side; need not be `width`."""
        return self.num_heads * self.head_width
