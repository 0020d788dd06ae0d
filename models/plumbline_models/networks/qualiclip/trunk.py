"""CLIP's ResNet without its pool: a stem of three convolutions, four stages of bottlenecks, no batch norm left.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020, section 2.4. Strides are anti-aliased: convolutions keep the size, a 2x2 average comes after.
Modules are named as in open_clip, so that a convolution's name says where its weights come from.
"""

from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.qualiclip.arch import EXPANSION, TrunkArch


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolution and a shortcut; where `has_stride`, both ways are halved in size by averaging."""

    def __init__(self, num_in: int, width: int, *, has_stride: bool) -> None:
        super().__init__()
        num_out = width * EXPANSION
        self.conv1 = nn.Conv2d(num_in, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, num_out, 1)
        self.downsample = nn.Conv2d(num_in, num_out, 1) if has_stride or num_in != num_out else None
        self.has_stride = has_stride

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, C, h, w]` to `[N, 4 * width, h, w]`, or half the size rounded down."""
        shortcut = self._halved(maps)
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        inner = functional.relu(self.conv2(functional.relu(self.conv1(maps))))
        return functional.relu(self.conv3(self._halved(inner)) + shortcut)

    def _halved(self, maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps, 2) if self.has_stride else maps


class Trunk(nn.Module):
    """`[N, 3, H, W]` to `[N, C, h, w]` with `h = (H + 1) // 32`, likewise w."""

    def __init__(self, arch: TrunkArch) -> None:
        super().__init__()
        half = arch.width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1)
        self.conv3 = nn.Conv2d(half, arch.width, 3, padding=1)
        num_in = arch.width
        for index, num_blocks in enumerate(arch.layers):
            width = arch.width * 2**index
            blocks = [Bottleneck(num_in, width, has_stride=index > 0)]
            num_in = width * EXPANSION
            blocks += [Bottleneck(num_in, width, has_stride=False) for _ in range(1, num_blocks)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.stages = [f"layer{index + 1}" for index in range(len(arch.layers))]

    def forward(self, image: Tensor) -> Tensor:
        """Zero is what lies around the image."""
        maps = functional.relu(self.conv1(image))
        maps = functional.relu(self.conv2(maps))
        maps = functional.avg_pool2d(functional.relu(self.conv3(maps)), 2)
        for stage in self.stages:
            maps = self.get_submodule(stage)(maps)
        return maps
