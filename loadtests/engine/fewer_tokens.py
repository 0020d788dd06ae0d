"""CLIP's image tower with fewer tokens from block to block, without training: what `leaner_towers` measures.

Three ways, all of fixed shapes, so that they compile:

    merge     Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv:2210.09461, section 3: after the
              attention of each block the patches of even places whose keys are closest to one of odd places are
              averaged with it. Attention counts a token as often as it holds patches.
    merge at  the same, once, after one block.
    condense  Liang et al., "Not All Patches are What You Need", ICLR 2022, arXiv:2202.07800, section 3.2, and Wang et
              al., "Token Condensation as Adaptation", arXiv:2410.14729, section 3, without its reservoir of tokens of
              images that came before, which makes an image's vector depend on those: once, after one block, patches
              that the class token attends to least are averaged with the kept patch that is closest to each.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from plumbline_models.networks.clip.arch import ImageArch
from plumbline_models.networks.clip.blocks import Block
from plumbline_models.networks.clip.image_tower import ImageTower

Way: TypeAlias = Literal["merge", "condense"]


@dataclass(frozen=True, slots=True)
class Reduction:
    """Which blocks take tokens away, and how many each.

    Args:
        way: How they are chosen.
        num: Tokens that one block takes.
        blocks: Numbers of those blocks, from 0.
    """

    way: Way
    num: int
    blocks: tuple[int, ...]

    @classmethod
    def everywhere(cls, arch: ImageArch, share: float) -> "Reduction":
        """Merging in all blocks but the last, as many in each.

        Args:
            arch: Of the tower.
            share: Of the patches, taken by all blocks together.
        """
        num_blocks = arch.num_blocks - 1
        return cls("merge", max(1, round(share * arch.num_patches / num_blocks)), tuple(range(num_blocks)))

    @classmethod
    def once(cls, way: Way, arch: ImageArch, share: float, *, depth: float) -> "Reduction":
        """After one block.

        Args:
            way: How.
            arch: Of the tower.
            share: Of the patches; merging takes half of them at most.
            depth: The block's place, 0 the first and 1 the last.
        """
        return cls(way, round(share * arch.num_patches), (round(depth * (arch.num_blocks - 1)),))


class LeanImageTower(ImageTower):
    """The tower, with tokens taken away on the way; its state dict is the full tower's.

    Args:
        arch: Sizes.
        reduction: What is taken away.
    """

    def __init__(self, arch: ImageArch, reduction: Reduction) -> None:
        super().__init__(arch)
        self.reduction = reduction

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 3, H, W]` normalised to `[N, D]`, not of unit norm."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        tokens = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        counts = torch.ones_like(tokens[:, :, :1])
        is_reduced = False
        for number, block in enumerate(self.transformer.early):
            mask = counts.log().transpose(1, 2)[:, None] if is_reduced else None
            if number in self.reduction.blocks:
                tokens, counts = self._reduce(block, tokens, counts, mask)
                is_reduced = True
            else:
                tokens = block(tokens, mask)
        mask = counts.log().transpose(1, 2)[:, None] if is_reduced else None
        read = self.transformer.last.read(tokens[:, :1], tokens, mask)
        return torch.matmul(self.ln_post(read[:, 0]), self.proj)

    def _reduce(self, block: Block, tokens: Tensor, counts: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """A block that takes tokens away between its attention and its feed-forward."""
        query, key, value = block.attn.split(block.ln_1(tokens))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        tokens = tokens + block.attn.join(mixed)
        keys = key.mean(dim=1)
        if self.reduction.way == "merge":
            tokens, counts = merge(tokens, counts, keys, self.reduction.num)
        else:
            nothing = counts.new_zeros(()) if mask is None else mask
            heed = block.attn.weigh(query[:, :, :1], key, nothing).mean(dim=1)[:, 0]
            tokens, counts = condense(tokens, counts, keys, heed, self.reduction.num)
        fed: Tensor = tokens + block.mlp(block.ln_2(tokens))
        return fed, counts


def merge(tokens: Tensor, counts: Tensor, keys: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Average `num` patches of even places with the closest ones of odd places; the class token stays.

    Args:
        tokens: `[N, L, W]`, the class token first.
        counts: `[N, L, 1]`, how many patches each holds.
        keys: `[N, L, K]`, what is compared.
        num: At most half of the patches.
    """
    directions = nn.functional.normalize(keys[:, 1:], dim=-1)
    likeness = torch.matmul(directions[:, 0::2], directions[:, 1::2].transpose(1, 2))
    closest, target = likeness.max(dim=-1)
    order = torch.topk(closest, closest.shape[1], dim=1).indices
    goes, stays = order[:, :num], order[:, num:]
    even, odd = _Kept(tokens[:, 1::2], counts[:, 1::2]), _Kept(tokens[:, 2::2], counts[:, 2::2])
    merged = odd.with_added(even.at(goes), torch.gather(target, 1, goes))
    stayed = even.at(stays)
    return (
        torch.cat([tokens[:, :1], stayed.tokens, merged.tokens], dim=1),
        torch.cat([counts[:, :1], stayed.counts, merged.counts], dim=1),
    )


def condense(tokens: Tensor, counts: Tensor, keys: Tensor, heed: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Average the `num` patches that are heeded least with the closest of the others; the class token stays.

    Args:
        tokens: `[N, L, W]`, the class token first.
        counts: `[N, L, 1]`, how many patches each holds.
        keys: `[N, L, K]`, what is compared.
        heed: `[N, L]`, what the class token's attention gives each.
        num: Fewer than there are.
    """
    patches = _Kept(tokens[:, 1:], counts[:, 1:])
    order = torch.topk(heed[:, 1:], heed.shape[1] - 1, dim=1).indices
    stays, goes = order[:, : order.shape[1] - num], order[:, order.shape[1] - num :]
    directions = nn.functional.normalize(keys[:, 1:], dim=-1)
    likeness = torch.matmul(_rows(directions, goes), _rows(directions, stays).transpose(1, 2))
    condensed = patches.at(stays).with_added(patches.at(goes), likeness.max(dim=-1).indices)
    return (
        torch.cat([tokens[:, :1], condensed.tokens], dim=1),
        torch.cat([counts[:, :1], condensed.counts], dim=1),
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """Tokens `[N, L, W]`, and how many patches each holds `[N, L, 1]`."""

    tokens: Tensor
    counts: Tensor

    def at(self, places: Tensor) -> "_Kept":
        return _Kept(_rows(self.tokens, places), _rows(self.counts, places))

    def with_added(self, others: "_Kept", targets: Tensor) -> "_Kept":
        """Each of these averaged with those of the others whose target it is, by counts."""
        places = torch.arange(self.tokens.shape[1], device=targets.device)
        belongs = (targets[:, None, :] == places[None, :, None]).to(self.tokens.dtype)
        counts = self.counts + torch.matmul(belongs, others.counts)
        total = self.tokens * self.counts + torch.matmul(belongs, others.tokens * others.counts)
        return _Kept(total / counts, counts)


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """`[N, L, W]` at places `[N, R]` to `[N, R, W]`."""
    return torch.gather(values, 1, places[:, :, None].expand(-1, -1, values.shape[-1]))
