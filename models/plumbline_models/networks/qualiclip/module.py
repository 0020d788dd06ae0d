"""QualiCLIP's image side: pixels of any size to how much nearer each good prompt is than its bad one.

Agnolucci et al., "Quality-Aware Image-Text Alignment for Opinion-Unaware Image Quality Assessment",
arXiv:2403.11176. That a CLIP ResNet without positional embedding takes images of any size is from Wang et al.,
"Exploring CLIP for Assessing the Look and Feel of Images", AAAI 2023, arXiv:2207.12396, section 3.1.

Nothing is approximated, but much is folded:

- Batch norms lie in the convolutions before them, and the division by the pixels' deviation in the first one.
- The pool is attention of which only the mean token's answer is used. With one query q a head, keys need not be
  made: (K x) . q = x . (K' q). Nor values: the sum of a V x is V times the sum of a x. The keys' bias moves all
  logits alike and drops out. Work and memory are linear in the image's area, where the authors' are quadratic.
- f . t+ - f . t- = f . (t+ - t-). The difference is what the score is made of, and it survives rounding to 16 bits,
  where two cosines that are nearly alike would not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plumbline_models.networks.clip.blocks import unit_norm
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.trunk import Trunk


class QueryPool(nn.Module):
    """CLIP's attention pool without positions, read at the mean token only."""

    def __init__(self, arch: TrunkArch) -> None:
        super().__init__()
        channels, heads = arch.num_channels, (arch.num_heads, arch.head_width)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Parameter(torch.empty(*heads, channels))
        self.value = nn.Parameter(torch.empty(heads[0], channels, heads[1]))
        self.value_bias = nn.Parameter(torch.empty(channels))
        self.out = nn.Linear(channels, arch.embed_dim)
        self.heads = heads

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, C, h, w]` to `[N, D]`."""
        patches = maps.flatten(2)
        mean = patches.mean(dim=2, keepdim=True)
        tokens = torch.cat([mean, patches], dim=2)
        query = self.query(mean[:, :, 0]).unflatten(1, (self.heads[0], 1, self.heads[1]))
        reach = torch.matmul(query, self.key)[:, :, 0]
        logits = torch.matmul(reach, tokens).to(torch.float32)
        weights = torch.softmax(logits, dim=2).to(tokens.dtype)
        seen = torch.matmul(weights, tokens.transpose(1, 2))
        return self.out(torch.matmul(seen[:, :, None], self.value).flatten(1) + self.value_bias)


class QualiClip(nn.Module):
    """The graph `qualiclip`.

    Args:
        arch: Sizes of the image tower.
        num_pairs: Of prompts.
        mean: Of pixels in 0..255, red, green, blue.
    """

    def __init__(self, arch: TrunkArch, num_pairs: int, *, mean: Sequence[float]) -> None:
        super().__init__()
        self.trunk = Trunk(arch)
        self.pool = QueryPool(arch)
        self.contrasts = nn.Parameter(torch.empty(arch.embed_dim, num_pairs))
        self.mean = tuple(mean)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, H, W, 3]` uint8, sides of at least 31, to `[N, P]`: good prompts' cosines less bad ones'."""
        return torch.matmul(self.embed(pixels), self.contrasts.to(torch.float32))

    def embed(self, pixels: Tensor) -> Tensor:
        """The same pixels to their `[N, D]` unit-norm features."""
        centred = pixels.to(torch.float32) - pixels.new_tensor(self.mean, dtype=torch.float32)
        return unit_norm(self.pool(self.trunk(centred.permute(0, 3, 1, 2).to(self.contrasts.dtype))))
