"""Causal networks with their weights, built by the transformers library; code from checkpoints is never run."""

import pickle  # nosec B403  # only its error is caught
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers import LlavaForConditionalGeneration as Llava
from transformers.utils import logging as library_logging

from plumbline_models.core.errors import CheckpointError, StateDictError, UnsafeCheckpointError
from plumbline_models.networks.causal.prefix_attention import attend, pin_rotations
from plumbline_models.weights.folders import find_weights
from plumbline_models.weights.shards import Shards

ATTENTION: Final = "plumbline_shared_prefix"
_ATTENTION_OF = {"": "sdpa", "text_config": ATTENTION, "vision_config": "sdpa"}
_OWN_LAYOUT: Final = (
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("vision_model.", "model.vision_tower."),
    ("model.", "model.language_model."),
    ("lm_head.", "lm_head."),
)
"""Names of LLaVA's own checkpoints, and of a CLIP beside them, and what the library calls them; the first that fits."""
_LANGUAGE_KEYS: Final = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps", "rope_theta", "max_position_embeddings", "hidden_act"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "rope_scaling"),
)


class NetworkSource(Protocol):
    """What a network is made of: a checkpoint."""

    @property
    def name(self) -> str:
        """A folder, or a hub name."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """`config.json`."""
        ...

    @property
    def vision_config(self) -> Mapping[str, Any]:
        """The tower's configuration."""
        ...

    @property
    def shards(self) -> Shards:
        """The checkpoint's tensors."""
        ...

    @property
    def tower_shards(self) -> Shards | None:
        """The tower's tensors, where they lie apart."""
        ...


def open_network(checkpoint: NetworkSource) -> Any:
    """The whole network in eval mode, in the precision of the checkpoint.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
        CheckpointError: The weights are not there or damaged.
    """
    checkpoint.shards.check_types()  # the library would convert them, or leave them as they are
    return _open_own_llava(checkpoint) if "mm_vision_tower" in checkpoint.config else _open(checkpoint)


def load_described(kind: Any, config: Any, state: Mapping[str, Tensor], *, name: str, dtype: torch.dtype) -> Any:
    """A network of the library in eval mode.

    Args:
        kind: Its class there.
        config: Of that class.
        state: Tensors by the names that the class has for them.
        name: The checkpoint's, for errors.
        dtype: What it becomes.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
        CheckpointError: The library does not take them.
    """
    _tell_library()
    try:
        opened: Any = kind.from_pretrained(  # nosec B615  # of tensors that are here
            None,
            config=config,
            state_dict=dict(state),
            dtype=dtype,
            attn_implementation=_ATTENTION_OF,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"The checkpoint {name} cannot be loaded.", reason=str(error)) from error
    return _checked(*opened, name=name)


def _tell_library() -> None:
    AttentionInterface.register(ATTENTION, attend)
    library_logging.disable_progress_bar()


def _checked(network: Any, report: Mapping[str, Any], *, name: str) -> Any:
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise StateDictError(
            f"The checkpoint {name} does not hold the whole network; {lacking[0]} for one is not there.",
            lacking=lacking,
        )
    pin_rotations(network)
    network.requires_grad_(requires_grad=False)
    return network.eval()


def _open(checkpoint: NetworkSource) -> Any:
    _tell_library()
    try:
        opened: Any = AutoModelForImageTextToText.from_pretrained(  # nosec B615  # of a local folder
            find_weights(checkpoint.name),
            dtype="auto",
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            attn_implementation=_ATTENTION_OF,
            output_loading_info=True,
        )
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"The checkpoint {checkpoint.name} holds more than tensors, and loading it could run code."
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"The checkpoint {checkpoint.name} cannot be loaded.", reason=str(error)) from error
    return _checked(*opened, name=checkpoint.name)  # a pair, since the report is wanted


def _open_own_llava(checkpoint: NetworkSource) -> Any:
    config, vision = checkpoint.config, dict(checkpoint.vision_config)
    if config.get("mm_projector_type") != "mlp2x_gelu" or config.get("mm_use_im_start_end"):
        raise CheckpointError(
            f"The checkpoint {checkpoint.name} is no LLaVA-1.5.", found=config.get("mm_projector_type")
        )
    language = {key: config[key] for key in _LANGUAGE_KEYS if config.get(key) is not None}
    described = LlavaConfig(
        text_config=LlamaConfig(**language),
        vision_config=CLIPVisionConfig(**vision),
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        tie_word_embeddings=False,
    )
    state = dict(_own_state(checkpoint))
    return load_described(Llava, described, state, name=checkpoint.name, dtype=state["lm_head.weight"].dtype)


def _own_state(checkpoint: NetworkSource) -> Iterator[tuple[str, Tensor]]:
    own = checkpoint.shards
    for shards in filter(None, (own, checkpoint.tower_shards)):
        for name in shards.names:
            new = _renamed(name)
            if new is not None and (shards is own or new.startswith("model.vision_tower.")):
                tensor = shards.read_any(name)
                if tensor.dtype is not torch.int64:  # positions that old checkpoints store
                    yield new, tensor


def _renamed(name: str) -> str | None:
    for old, new in _OWN_LAYOUT:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return None
