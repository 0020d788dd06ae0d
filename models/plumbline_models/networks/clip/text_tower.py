"""CLIP's text tower: token ids to the vector that its end-of-text token leaves with.

Radford et al., arXiv:2103.00020, section 2.4. What comes after the end-of-text token changes nothing, so texts
padded to any common length give the same.
"""

import torch
from torch import Tensor, nn

from plumbline_models.networks.clip.arch import TextArch
from plumbline_models.networks.clip.blocks import Block, Blocks, LayerNorm, unit_norm


class ClipText(nn.Module):
    """A text tower with its norm.

    Args:
        tower: CLIP's own, which takes any length, or one of open_clip's others, which takes the full context.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, token_ids: Tensor) -> Tensor:
        """`[N, L]` int64 to `[N, D]` float32 of unit norm."""
        made = self.tower(token_ids)
        return unit_norm(made[0] if isinstance(made, tuple | list) else made)


FORBIDDEN = -3e4  # finite even in fp16, so that no backend makes a NaN of it; exp underflows to exactly 0


class TextTower(nn.Module):
    """The tower; its state dict has open_clip's names.

    Args:
        arch: Sizes.
    """

    def __init__(self, arch: TextArch) -> None:
        super().__init__()
        self.arch = arch
        width = arch.block.width
        self.token_embedding = nn.Embedding(arch.num_tokens, width)
        self.positional_embedding = nn.Parameter(torch.empty(arch.context_length, width))
        self.transformer = Blocks(arch.block, arch.num_blocks)
        self.ln_final = LayerNorm(width, arch.block.norm_epsilon)
        self.text_projection = nn.Parameter(torch.empty(width, arch.embed_dim))

    @property
    def blocks(self) -> list[Block]:
        """In the order in which they run."""
        return [*self.transformer.early, self.transformer.last]

    def forward(self, token_ids: Tensor) -> Tensor:
        """`[N, L]` ids padded on the right with 0, L up to the context length, to `[N, D]`, not normalised."""
        tokens = self.embed(token_ids)
        mask = causal_mask(token_ids.shape[1], tokens)
        for block in self.transformer.early:
            tokens = block(tokens, mask)
        ends = end_of_text(token_ids, tokens)
        read = self.transformer.last.read(pick(ends, tokens), tokens, pick(ends, mask)[:, None])
        return self.project(read[:, 0])

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token and position, `[N, L, W]`."""
        embedded: Tensor = self.token_embedding(token_ids) + self.positional_embedding[: token_ids.shape[1]]
        return embedded

    def project(self, tokens: Tensor) -> Tensor:
        """Last norm and projection, `[N, W]` to `[N, D]`."""
        return torch.matmul(self.ln_final(tokens), self.text_projection)


def causal_mask(length: int, like: Tensor) -> Tensor:
    """`[length, length]`, reader first: 0 where it may read, and very negative at what comes later.

    Args:
        length: In tokens.
        like: Of the mask's dtype and device.
    """
    positions = torch.arange(length, device=like.device)
    return (positions[None, :] > positions[:, None]).to(like.dtype) * FORBIDDEN


def end_of_text(token_ids: Tensor, like: Tensor) -> Tensor:
    """Where each text ends: `[N, L]`, 1 at the first largest id of the text, else 0.

    In whole numbers, and without ties: an earlier position makes a larger rank, whatever a backend's argmax does.

    Args:
        token_ids: `[N, L]`.
        like: Of the result's dtype.
    """
    ids = token_ids.to(torch.int32)
    length = ids.shape[1]
    ranks = ids * length - torch.arange(length, dtype=torch.int32, device=ids.device)
    return (ranks == ranks.amax(dim=1, keepdim=True)).to(like.dtype)


def pick(ends: Tensor, values: Tensor) -> Tensor:
    """The values at each text's end, `[N, 1, W]` of `[N, L, W]` or `[L, W]`; a product, which any compiler can undo.

    Args:
        ends: As `end_of_text` gives them.
        values: Of each position.
    """
    return torch.matmul(ends[:, None, :], values)
