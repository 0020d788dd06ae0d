"""The transformer block of CLIP's towers, written out so that any compiler takes it, forward and backward.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020, section 2.4. Modules and parameters have open_clip's names, so that its tensors fit as they are.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.clip.arch import BlockArch

QUICK_GELU_SLOPE = 1.702  # x * sigmoid(1.702 x), as OpenAI's towers were trained


class LayerNorm(nn.Module):
    """Layer norm over the last axis, in primitives: as an operator of several outputs some compilers refuse it."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, tokens: Tensor) -> Tensor:
        """Same shape."""
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.epsilon) * self.weight + self.bias


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, arch: BlockArch) -> None:
        super().__init__()
        self.width, self.num_heads, self.head_width = arch.width, arch.num_heads, arch.head_width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * arch.width, arch.width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * arch.width))
        self.out_proj = nn.Linear(arch.width, arch.width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`[N, L, W]` to the same.

        Args:
            tokens: `[N, L, W]`.
            mask: Added to the scores, reader first: `[L, L]` or `[N, 1, L, L]`.
        """
        query, key, value = self.split(tokens)
        return self.join(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))

    def read(self, reader: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """What a few tokens `[N, R, W]` read of all of them.

        Args:
            reader: Those few.
            tokens: `[N, L, W]`, all.
            mask: `[N, 1, R, L]`, added to the scores.
        """
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = self._heads(functional.linear(reader, weight[: self.width], bias[: self.width]))
        both = functional.linear(tokens, weight[self.width :], bias[self.width :])
        key, value = (self._heads(part) for part in both.chunk(2, dim=-1))
        return self.join(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of `[N, L, W]`, each `[N, heads, L, W / heads]`."""
        together = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (self._heads(part) for part in together.chunk(3, dim=-1))
        return query, key, value

    def weigh(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Attention weights `[N, heads, R, L]` in plain products; they sum to 1 for each reader.

        Args:
            query: `[N, heads, R, W / heads]`.
            key: `[N, heads, L, W / heads]`.
            mask: Added to the scores.
        """
        scores = torch.matmul(query, key.transpose(-1, -2)) * (1 / math.sqrt(self.head_width))
        return torch.softmax(scores + mask, dim=-1)

    def join(self, mixed: Tensor) -> Tensor:
        """Values that attention has mixed, `[N, heads, L, W / heads]`, projected back to `[N, L, W]`."""
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with an activation in between."""

    def __init__(self, arch: BlockArch) -> None:
        super().__init__()
        self.has_quick_gelu = arch.has_quick_gelu
        self.approximate = "tanh" if arch.has_tanh_gelu else "none"
        self.c_fc = nn.Linear(arch.width, arch.ffn_width)
        self.c_proj = nn.Linear(arch.ffn_width, arch.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, L, W]` to the same."""
        projected: Tensor = self.c_proj(self.activate(self.c_fc(tokens)))
        return projected

    def activate(self, values: Tensor) -> Tensor:
        """QuickGELU, the exact GELU, or its approximation by tanh; same shape."""
        if self.has_quick_gelu:
            return values * torch.sigmoid(QUICK_GELU_SLOPE * values)
        return functional.gelu(values, approximate=self.approximate)


class Block(nn.Module):
    """Attention, then feed-forward, each with its norm in front and the sum behind."""

    def __init__(self, arch: BlockArch) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(arch.width, arch.norm_epsilon)
        self.attn = Attention(arch)
        self.ln_2 = LayerNorm(arch.width, arch.norm_epsilon)
        self.mlp = FeedForward(arch)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`[N, L, W]` to the same.

        Args:
            tokens: `[N, L, W]`.
            mask: As the attention takes it.
        """
        return self._feed(tokens + self.attn(self.ln_1(tokens), mask))

    def read(self, reader: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """What the block makes of a few of its tokens, `[N, R, W]` to the same; spares the work on all others.

        Args:
            reader: Those of `tokens` whose result is wanted.
            tokens: `[N, L, W]`, what they read.
            mask: Added to the scores, `[N, 1, R, L]`.
        """
        return self._feed(reader + self.attn.read(self.ln_1(reader), self.ln_1(tokens), mask))

    def _feed(self, tokens: Tensor) -> Tensor:
        fed: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return fed


class Blocks(nn.Module):
    """A stack of blocks of which only a few tokens are wanted in the end."""

    def __init__(self, arch: BlockArch, num_blocks: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(arch) for _ in range(num_blocks))

    @property
    def early(self) -> list[Block]:
        """All blocks but the last, in the order in which they run."""
        return [block for block in self.resblocks if isinstance(block, Block)][:-1]

    @property
    def last(self) -> Block:
        """The last block, in which tokens that nobody reads need not be computed."""
        block = self.resblocks[-1]
        if not isinstance(block, Block):
            raise TypeError(type(block))
        return block


def unit_norm(vectors: Tensor) -> Tensor:
    """Divide each vector of `[N, D]` by its length, in float32; a vector of zeros stays one."""
    vectors = vectors.to(torch.float32)
    length = torch.sqrt((vectors * vectors).sum(dim=-1, keepdim=True))
    return vectors / torch.clamp(length, min=1e-12)
