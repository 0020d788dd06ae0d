"""Tensors of one weights file, read without running anything in it."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plumbline_models.checkpoints.archive import FileKind, inspect
from plumbline_models.core.errors import CheckpointError, StateDictError, UnsafeCheckpointError

WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
"""Under which of their keys training programs keep the state dict."""
_PREFIXES: Final = ("module.", "_orig_mod.", "model.")
"""What wrapping a network for training puts before every name."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        file: safetensors, or what `torch.save` writes: a state dict, bare or in one of `WRAPPERS`.

    Returns:
        Tensors by name, without the prefixes of training wrappers; floating ones as float32.

    Raises:
        UnsafeCheckpointError: Reading it would run code, or it holds more than tensors.
        CheckpointError: The file is damaged.
        StateDictError: There is no state dict in it.
    """
    kind = inspect(file)
    state = _read_safetensors(file) if kind == "safetensors" else _unwrap(_read_pickle(file, kind), file)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise StateDictError(f"The checkpoint {file.name} holds no tensors.", path=str(file))
    return {name: _widen(tensor) for name, tensor in _strip(tensors).items()}


def _read_safetensors(file: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged.", path=str(file)) from error


def _read_pickle(file: Path, kind: FileKind) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=kind == "zip_pickle")
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"The checkpoint {file.name} holds more than tensors, and loading it could run code.", path=str(file)
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The checkpoint {file.name} is damaged.", path=str(file)) from error


def _unwrap(loaded: Any, file: Path) -> Mapping[str, Any]:
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            return _unwrap(loaded[key], file)
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise StateDictError(f"The checkpoint {file.name} holds no state dict.", path=str(file))
    return loaded


def _strip(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return _strip({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor
