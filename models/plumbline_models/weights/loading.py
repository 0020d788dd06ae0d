"""Tensors of one weights file, read without running anything in it."""

import logging
import pickle  # nosec B403  # only its error is caught
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plumbline_models.core.errors import CheckpointError, StateDictError
from plumbline_models.weights.archive import FileKind, has_scale, inspect, more_than_tensors
from plumbline_models.weights.weight_files import files_of

log = logging.getLogger(__name__)
WRAPPERS: Final = ("state_dict", "model_state_dict", "model", "module", "params")
"""Under which of their keys training programs keep the state dict."""
AVERAGED: Final = (
    *("ema", "ema_state_dict", "state_dict_ema", "model_ema", "params_ema"),
    *("swa", "swa_state_dict", "state_dict_swa", "model_swa"),
)
"""Under which of their keys they keep averaged weights, read where there are no others."""
FLOAT8: Final = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})
FLOATS: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, *FLOAT8})
"""Plain numbers, of `FLOAT8` only where no scale lies beside them."""
_COUNTER: Final = "n_averaged"  # what torch's averaging puts beside the tensors
_PREFIXES: Final = ("module.", "_orig_mod.", "model.")
"""What wrapping a network for training puts before every name."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        file: safetensors, or what `torch.save` writes: a state dict, bare or in one of `WRAPPERS` or `AVERAGED`; or
            an index of shards of either.

    Returns:
        Tensors by name, without the prefixes of training wrappers; those of `FLOATS` as float32, others as they are.

    Raises:
        UnsafeCheckpointError: Reading it would run code, or it holds more than tensors.
        CheckpointError: The file is damaged.
        StateDictError: There is no state dict in it.
    """
    states = [_read_state(part) for part in files_of(file)]
    tensors = {name: value for state in states for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise StateDictError(f"The checkpoint {file.name} holds no tensors.", path=str(file))
    tensors = dict(_strip(tensors))
    return {name: _widen(tensor, is_scaled=has_scale(name, tensors)) for name, tensor in tensors.items()}


def _read_state(file: Path) -> Mapping[str, Any]:
    kind = inspect(file)
    return _read_safetensors(file) if kind == "safetensors" else _unwrap(read_pickle(file, kind), file)


def read_pickle(file: Path, kind: FileKind) -> Any:
    """What `torch.save` wrote, weights-only.

    Args:
        file: The pickle, whatever its ending.
        kind: What `inspect` found it to be.

    Raises:
        UnsafeCheckpointError: It holds more than tensors.
        CheckpointError: The file is damaged.
    """
    try:
        if file.suffix != ".safetensors":
            return torch.load(file, map_location="cpu", weights_only=True, mmap=kind == "zip_pickle")
        with file.open("rb") as opened:  # torch goes by the ending of a path
            return torch.load(opened, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise more_than_tensors(file, error) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged.", path=str(file)) from error


def _read_safetensors(file: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged.", path=str(file)) from error


def _unwrap(loaded: Any, file: Path) -> Mapping[str, Any]:
    if not isinstance(loaded, dict):
        raise StateDictError(f"The checkpoint {file.name} holds no state dict.", path=str(file))
    inside = [key for key in (*WRAPPERS, *AVERAGED) if isinstance(loaded.get(key), dict)] or _nameless(loaded)
    if not inside:
        if not all(isinstance(name, str) for name in loaded):
            raise StateDictError(f"The checkpoint {file.name} holds no state dict.", path=str(file))
        return loaded
    chosen, *others = inside
    if others and chosen not in (*WRAPPERS, *AVERAGED):
        raise StateDictError(
            f"The checkpoint {file.name} holds no one state dict, but several: {', '.join(inside)}; save one of them.",
            path=str(file),
        )
    if others:
        log.warning("Of %s, %s is read, and %s is not.", file.name, chosen, ", ".join(others))
    return _unwrap(loaded[chosen], file)


def _nameless(loaded: Mapping[Any, Any]) -> list[str]:
    """Keys of what looks like a state dict, where the top itself holds no tensors."""
    if any(isinstance(value, Tensor) for value in loaded.values()):
        return []
    return [str(key) for key, value in loaded.items() if isinstance(value, dict) and _is_state(value)]


def _is_state(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in value) and any(isinstance(each, Tensor) for each in value.values())


def _strip(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    named = {name: tensor for name, tensor in tensors.items() if name != _COUNTER}
    for prefix in _PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            return _strip({name.removeprefix(prefix): tensor for name, tensor in named.items()})
    return tensors


def _widen(tensor: Tensor, *, is_scaled: bool) -> Tensor:
    is_plain = tensor.dtype in FLOATS and not (is_scaled and tensor.dtype in FLOAT8)
    return tensor.to(torch.float32) if is_plain else tensor
