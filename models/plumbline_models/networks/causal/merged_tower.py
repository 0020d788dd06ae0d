"""The image towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any size, groups of patches merged into one token.

Patches stay in the order of the image. Qwen2.5-VL's layers that look into windows cut them here, on a grid padded
to whole windows; the library sorts the patches by window instead, and back. Attention knows no order, so both agree.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Rotations = tuple[Tensor, Tensor]


class MergedTower(nn.Module):
    """A tower and its merger.

    Args:
        tower: Of the library: `Qwen2VisionTransformerPretrainedModel`, `Qwen2_5_VisionTransformerPretrainedModel` or
            `Qwen3VLVisionModel`.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        projection, self.merge = tower.patch_embed.proj, int(tower.spatial_merge_size)
        self.patch_px = int(tower.patch_embed.patch_size)
        # An image is a film of equal frames, so that the frames' weights can be added up beforehand.
        self.patches = nn.Parameter(projection.weight.detach().sum(2).flatten(1), requires_grad=False)
        self.offset = projection.bias
        self.rotary, self.blocks, self.merger = tower.rotary_pos_emb, tower.blocks, tower.merger
        self.places = getattr(tower, "pos_embed", None)
        self.deep_at = list(getattr(tower, "deepstack_visual_indexes", ()))
        self.deep_mergers = getattr(tower, "deepstack_merger_list", None)
        window_px = getattr(tower, "window_size", None)
        self.window = None if window_px is None else int(window_px) // self.merge // self.patch_px
        self.whole_at = set(getattr(tower, "fullatt_block_indexes", ()))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Encode images of one size.

        Args:
            pixels: `[N, R, merge * patch, C, merge * patch, 3]`, normalised: rows and columns of merged groups.

        Returns:
            Levels of `[N, R * C, D]`: the tokens in the prompt, and what deeper layers of the language part add.
        """
        num_images, num_rows, _, num_columns = pixels.shape[:4]
        tokens = functional.linear(self._cut(pixels), self.patches, self.offset)
        high, wide = self._coordinates(num_rows, num_columns, pixels.device)
        if self.places is not None:
            sides = (num_rows * self.merge, num_columns * self.merge)
            tokens = tokens + self._interpolated(self.places.weight, (high, wide), sides)
        rotations = self.rotary(tokens, torch.stack([high, wide], dim=1))
        deep: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            window = None if self.window is None or index in self.whole_at else self.window
            grid = (num_rows, num_columns)
            tokens = tokens + _attend(block.attn, block.norm1(tokens), rotations, grid=grid, window=window)
            tokens = tokens + block.mlp(block.norm2(tokens))
            if index in self.deep_at:
                deep.append(self.deep_mergers[self.deep_at.index(index)](tokens.flatten(0, 1)))  # type: ignore[index]
        levels = [self.merger(tokens.flatten(0, 1)), *deep]
        return [level.reshape(num_images, num_rows * num_columns, level.shape[-1]) for level in levels]

    def _cut(self, pixels: Tensor) -> Tensor:
        """`[N, R * C * merge * merge, 3 * patch * patch]`, patches that are merged one behind another."""
        sides = (self.merge, self.patch_px)
        # Axes: image, row, row in group, row in patch, then the same of columns, then the channel.
        cut = pixels.unflatten(4, sides).unflatten(2, sides)
        return cut.permute(0, 1, 4, 2, 5, 7, 3, 6).flatten(5).flatten(1, 4)

    def _coordinates(self, num_rows: int, num_columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row and column of each patch in the image, `[S]` each."""
        inside = torch.arange(self.merge, device=device)
        high = torch.arange(num_rows, device=device)[:, None, None, None] * self.merge + inside[:, None]
        wide = torch.arange(num_columns, device=device)[:, None, None] * self.merge + inside
        shape = (num_rows, num_columns, self.merge, self.merge)
        return high.expand(shape).flatten(), wide.expand(shape).flatten()

    @staticmethod
    def _interpolated(table: Tensor, places: tuple[Tensor, Tensor], sides: tuple[int, int]) -> Tensor:
        """A square grid of vectors stretched over the image corner to corner, read off bilinearly, `[S, D]`."""
        side = int(table.shape[0] ** 0.5)
        read = torch.zeros(1, 1, device=table.device)
        exact = [at.float() * ((side - 1) / (size - 1)) for at, size in zip(places, sides, strict=True)]
        low = [at.floor() for at in exact]
        shares = [at - floor for at, floor in zip(exact, low, strict=True)]
        for below in (0, 1):
            for right in (0, 1):
                row, column = (
                    (floor.long() + more).clamp(max=side - 1) for floor, more in zip(low, (below, right), strict=True)
                )
                tall, broad = (share if more else 1 - share for share, more in zip(shares, (below, right), strict=True))
                read = read + table[row * side + column] * (tall * broad)[:, None]
        return read.to(table.dtype)


def _attend(layer: Any, tokens: Tensor, rotations: Rotations, *, grid: tuple[int, int], window: int | None) -> Tensor:
    """Attention over all patches of an image, or those of one window."""
    parts = layer.qkv(tokens).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = (_turned(part.float(), rotations).to(part.dtype) for part in (parts[0], parts[1]))
    if window is None:
        mixed = functional.scaled_dot_product_attention(query, key, parts[2], scale=layer.scaling)
    else:
        mixed = _attend_in_windows(torch.stack([query, key, parts[2]]), grid, window, scaling=layer.scaling)
    return layer.proj(mixed.transpose(1, 2).flatten(2))


def _attend_in_windows(parts: Tensor, grid: tuple[int, int], window: int, *, scaling: float) -> Tensor:
    num_rows, num_columns = grid
    shape = parts.shape
    # Rounded up so, and not by a remainder: torch cannot export that of windows of three groups.
    counts = ((num_rows + window - 1) // window, (num_columns + window - 1) // window)
    lack = (counts[0] * window - num_rows, counts[1] * window - num_columns)
    # [3, N, heads, rows of groups, columns of groups, patches of a group * width]
    groups = parts.reshape(*shape[:3], num_rows, num_columns, -1)
    padded = functional.pad(groups, (0, 0, 0, lack[1], 0, lack[0]))
    cut = padded.reshape(*shape[:3], counts[0], window, counts[1], window, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
    query, key, value = cut.reshape(3, shape[1], counts[0] * counts[1], shape[2], -1, shape[4]).unbind(0)
    bias = _bias_of_padding(grid, lack, window, like=parts)
    num_patches = query.shape[3] // window**2
    bias = bias[:, :, None].expand(-1, -1, num_patches).reshape(counts[0] * counts[1], 1, 1, -1)
    weights = (query * scaling @ key.transpose(-1, -2) + bias).softmax(-1)
    mixed = (weights @ value).reshape(shape[1], *counts, shape[2], window, window, -1)
    mixed = mixed.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
    return mixed[:, :, :num_rows, :num_columns].reshape(*shape[1:])


def _bias_of_padding(grid: tuple[int, int], lack: tuple[int, int], window: int, *, like: Tensor) -> Tensor:
    """`[windows, groups of a window]`: 0, and minus infinity where a window reaches beyond the image."""
    inside = functional.pad(like.new_zeros(grid), (0, lack[1], 0, lack[0]), value=-torch.inf)
    counts = ((grid[0] + lack[0]) // window, (grid[1] + lack[1]) // window)
    cut = inside.reshape(counts[0], window, counts[1], window).transpose(1, 2)
    return cut.reshape(counts[0] * counts[1], window * window)


def _turned(tokens: Tensor, rotations: Rotations) -> Tensor:
    first, second = tokens.chunk(2, dim=-1)
    return tokens * rotations[0] + torch.cat([-second, first], dim=-1) * rotations[1]
