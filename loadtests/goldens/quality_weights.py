"""Rebuilds, bit for bit, the random CLIP RN50 weights behind the golden scores; nothing is downloaded.

`vanilla` is what open_clip draws right after seeding. Under it the features of all images are nearly parallel, a weak
test by itself. `spread` fills in batch norms and scales a little, so that images get clearly different features.
"""

import math
from collections.abc import Mapping

import open_clip
import torch
from torch import Tensor


def vanilla_state_dict(seed: int) -> dict[str, Tensor]:
    """The weights that open_clip draws right after seeding."""
    torch.manual_seed(seed)
    clip = open_clip.create_model("RN50-quickgelu", pretrained=None)
    return {name: tensor.detach().clone() for name, tensor in clip.state_dict().items()}


def spread_state_dict(vanilla: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights whose features differ clearly between images.

    Args:
        vanilla: What `vanilla_state_dict` gave for `seed`; stays as it is.
        seed: Of the golden numbers.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    state = {name: tensor.clone() for name, tensor in vanilla.items()}
    for name in sorted(name for name in state if name.startswith("visual.")):
        _fill_norm(name, state[name], generator)
    state["visual.layer4.2.bn3.bias"].add_(-4.0)
    state["visual.attnpool.q_proj.weight"].mul_(0.6)
    state["visual.attnpool.k_proj.weight"].mul_(0.6)
    state["logit_scale"].fill_(math.log(100.0))
    return state


def checksums(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Sum and norm of a few tensors; digests differ in the last bits between vector instructions, these hardly."""
    names = [
        "visual.conv1.weight",
        "visual.layer3.4.conv2.weight",
        "visual.layer4.2.bn3.bias",
        "visual.attnpool.q_proj.weight",
        "token_embedding.weight",
        "text_projection",
    ]
    return {name: [float(state[name].double().sum()), float(state[name].double().norm())] for name in names}


def _fill_norm(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    is_norm = ".bn" in name or ".downsample.1." in name
    if name.endswith("running_mean"):
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    elif name.endswith("running_var"):
        tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    elif is_norm and name.endswith(".weight"):
        tensor.copy_(_gain(name) * (0.75 + 0.5 * torch.rand(tensor.shape, generator=generator)))
    elif is_norm and name.endswith(".bias"):
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))


def _gain(name: str) -> float:
    if "downsample" in name:
        return 1.7
    return 1.2 if ".layer" in name and ".bn3." in name else 2.4
