"""HPSv3 with its weights: Qwen2-VL as the transformers library builds it, and a head in place of its vocabulary."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLModel

from plumbline_models.core.errors import CheckpointError, StateDictError
from plumbline_models.networks.causal.loading import load_described
from plumbline_models.networks.causal.reward_module import RewardHead
from plumbline_models.weights.shards import Shards

_LAYOUTS: Final = (
    ("model.visual.", "visual."),
    ("visual.", "visual."),
    ("model.language_model.", "language_model."),
    ("model.", "language_model."),
)
"""Names of published weights (of transformers 4.45 and newer) and what the library calls them; the first that fits."""
_TABLE: Final = "language_model.embed_tokens.weight"
_HEAD: Final = re.compile(r"rm_head\.(\d+)\.(weight|bias)")
_UNREAD: Final = "lm_head.weight"  # stored, and of no use to a reward
_NUM_OUTPUTS: Final = 2


@dataclass(frozen=True, slots=True)
class LoadedReward:
    """A network, and what reads a reward off it."""

    model: Any
    """Of the library, `Qwen2VLModel`."""
    head: RewardHead


def open_reward(shards: Shards, config: Mapping[str, Any], *, name: str, num_tokens: int) -> LoadedReward:
    """The whole network in eval mode, in the precision of the checkpoint, its head in float32.

    Args:
        shards: The weights.
        config: Of Qwen2-VL.
        name: The checkpoint's, for errors.
        num_tokens: Of the tokenizer, the reward token included: so many rows the weights' table has.

    Raises:
        StateDictError: A tensor is missing, left over, or has the wrong shape.
        CheckpointError: The configuration is not usable.
    """
    shards.check_types()
    head = _read_head(shards, name)
    state = {new: shards.read_any(old) for old in shards.names if (new := _renamed(old, name)) is not None}
    if _TABLE not in state or state[_TABLE].shape[0] != num_tokens:
        raise StateDictError(
            f"The checkpoint {name} does not hold a row for each of the tokenizer's {num_tokens} tokens.",
            num_tokens=num_tokens,
        )
    try:
        described: Any = Qwen2VLConfig.from_dict(dict(config))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The config.json of {name} is not usable.", reason=str(error)) from error
    described.text_config.vocab_size = num_tokens
    network = load_described(Qwen2VLModel, described, state, name=name, dtype=state[_TABLE].dtype)
    return LoadedReward(network, head)


def _renamed(name: str, checkpoint: str) -> str | None:
    for old, new in _LAYOUTS:
        if name.startswith(old):
            return new + name.removeprefix(old)
    if name != _UNREAD and not _HEAD.fullmatch(name):
        raise StateDictError(f"The checkpoint {checkpoint} holds {name}, which HPSv3 has not.", name=name)
    return None


def _read_head(shards: Shards, name: str) -> RewardHead:
    indices = sorted({int(found[1]) for each in shards.names if (found := _HEAD.fullmatch(each))})
    layers = [_layer(shards, f"rm_head.{index}") for index in indices]
    widths = [(layer.in_features, layer.out_features) for layer in layers]
    is_chain = all(before[1] == after[0] for before, after in pairwise(widths))
    if not layers or not is_chain or widths[-1][1] != _NUM_OUTPUTS:
        raise StateDictError(f"The checkpoint {name} has no head of a reward and its deviation.", widths=widths)
    return RewardHead(layers).eval()


def _layer(shards: Shards, name: str) -> nn.Linear:
    weight, bias = (shards.read_any(f"{name}.{part}").float() for part in ("weight", "bias"))
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:  # noqa: PLR2004 - a matrix
        raise StateDictError(f"The checkpoint's {name} is no linear layer.", shape=tuple(weight.shape))
    layer = cast("nn.Linear", torch.nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0]))
    layer.weight, layer.bias = _fixed(weight), _fixed(bias)
    return layer


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
