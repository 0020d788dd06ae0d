import argparse
import io
import json
import logging
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from plumbline_models.core.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    StateDictError,
    UnsafeCheckpointError,
)
from plumbline_models.weights.loading import read_tensors

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickled_state_dict_is_read_in_either_container(suffix: str, *, is_zip: bool, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"
    torch.save(STATE, file, _use_new_zipfile_serialization=is_zip)
    assert same(read_tensors(file))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert same(read_tensors(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="state_dict"),
        pytest.param(lambda state: {"model": {"state_dict": state}}, id="two wrappers"),
        pytest.param(lambda state: {f"module.{name}": value for name, value in state.items()}, id="module."),
        pytest.param(
            lambda state: {"state_dict": {f"module._orig_mod.{n}": v for n, v in state.items()}}, id="two prefixes"
        ),
        pytest.param(lambda state: {"ema": state, "decay": 0.999}, id="ema"),
        pytest.param(lambda state: {"swa": {"state_dict": state}, "epoch": 3}, id="swa"),
        pytest.param(
            lambda state: {"n_averaged": torch.tensor(3), **{f"module.{n}": v for n, v in state.items()}},
            id="torch's averaging",
        ),
        pytest.param(lambda state: {"network": state, "optimizer": {"state": {0: {"exp": torch.ones(1)}}}}, id="other"),
    ],
)
def test_what_training_programs_wrap_around_is_taken_off(wrap: Callable[[object], object], tmp_path: Path) -> None:
    torch.save(wrap(STATE), tmp_path / "weights.pt")
    assert same(read_tensors(tmp_path / "weights.pt"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_numbers_become_float32_and_whole_ones_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({"a.weight": STATE["a.weight"].to(dtype), "b": STATE["b"]}, tmp_path / "weights.pt")
    found = read_tensors(tmp_path / "weights.pt")
    assert same(found)
    assert found["a.weight"].dtype == torch.float32
    assert found["b"].dtype == torch.int64


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("container", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(container: str, tmp_path: Path) -> None:
    trace, file = tmp_path / "was-here", tmp_path / "weights.pt"
    payload = {**STATE, "c": Malicious(trace)}
    if container == "plain pickle":
        file.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(payload, file, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(UnsafeCheckpointError, match=r"weights\.pt holds more than tensors"):
        read_tensors(file)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # noqa: S301 - our own: a loader that trusted it would have run it
    assert trace.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(UnsafeCheckpointError, match="TorchScript archive"):
        read_tensors(tmp_path / "ViT-B-32.pt")


def test_packed_entries_are_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save(STATE, whole)
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(tmp_path / "weights.pt", "w", compression=zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    with pytest.raises(UnsafeCheckpointError, match="packed entries"):
        read_tensors(tmp_path / "weights.pt")


def test_averaged_weights_are_read_only_where_there_are_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"ema": {"a.weight": torch.zeros(2, 3)}, "model": STATE}, tmp_path / "weights.pt")
    with caplog.at_level(logging.WARNING):
        assert same(read_tensors(tmp_path / "weights.pt"))
    assert caplog.messages == ["Of weights.pt, model is read, and ema is not."]


def test_several_state_dicts_under_names_of_their_own_are_named(tmp_path: Path) -> None:
    torch.save({"student": STATE, "teacher": STATE}, tmp_path / "weights.pt")
    with pytest.raises(StateDictError, match="several: student, teacher"):
        read_tensors(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "pytorch_model.bin", "weights"])
def test_safetensors_are_read_under_any_ending(name: str, tmp_path: Path) -> None:
    save_file(STATE, tmp_path / name)
    assert same(read_tensors(tmp_path / name))


def test_a_pickle_under_the_ending_of_safetensors_is_read_weights_only(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "weights.safetensors")
    assert same(read_tensors(tmp_path / "weights.safetensors"))
    torch.save({"a": Malicious(tmp_path / "was-here")}, tmp_path / "weights.safetensors")
    with pytest.raises(UnsafeCheckpointError):
        read_tensors(tmp_path / "weights.safetensors")


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    for index, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, tmp_path / f"model-{index}.safetensors")
    index_file = tmp_path / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"weight_map": {n: f"model-{i}.safetensors" for i, n in enumerate(STATE)}}))
    assert same(read_tensors(index_file))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"The shard model-1\.safetensors is missing"):
        read_tensors(index_file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s3--ab.safetensors\n", "is a git-annex pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"GGUF\x03\0\0\0", "is a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x1f\x8b\x08\0", "is packed by gzip"),
        (b'{"weights": []}', "is JSON"),
        (b"", "is damaged: it is empty"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_what_is_no_checkpoint_is_called_what_it_is(content: bytes, said: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^The checkpoint {name} {said}"):
        read_tensors(tmp_path / name)


def test_an_archive_of_numpy_arrays_is_no_checkpoint(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="a zip archive that torch has not made"):
        read_tensors(tmp_path / "weights.npz")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        pytest.param({"best": np.float64(0.5)}, r"numpy[\w.]*\.scalar", id="a numpy scalar"),
        pytest.param({"args": argparse.Namespace(lr=0.1)}, r"argparse\.Namespace", id="arguments of a training"),
    ],
)
def test_what_trainers_leave_beside_tensors_is_refused_with_a_command_that_converts_it(
    extra: dict[str, object], named: str, tmp_path: Path
) -> None:
    file = tmp_path / "it's best.pt"
    torch.save({"state_dict": STATE, **extra}, file)
    with pytest.raises(UnsafeCheckpointError, match=named) as raised:
        read_tensors(file)
    command = shlex.split(raised.value.detail.split("in its folder: ")[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    assert same(load_file(tmp_path / "it's best.safetensors"))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.int8, "unrelated"),
        (torch.uint8, "unrelated"),
        (torch.float8_e4m3fn, "a.weight_scale"),
        (torch.float8_e4m3fn, "a.weight_scale_inv"),
        (torch.float8_e5m2, "a.scale_weight"),
    ],
)
def test_quantised_tensors_are_not_taken_for_numbers(dtype: torch.dtype, scale: str, tmp_path: Path) -> None:
    state = {"a.weight": STATE["a.weight"].to(dtype), scale: torch.ones(1)}
    save_file(state, tmp_path / "weights.safetensors")
    assert read_tensors(tmp_path / "weights.safetensors")["a.weight"].dtype == dtype


def test_numbers_of_8_bits_without_a_scale_are_numbers(tmp_path: Path) -> None:
    save_file({**STATE, "a.weight": STATE["a.weight"].to(torch.float8_e4m3fn)}, tmp_path / "weights.safetensors")
    assert same(read_tensors(tmp_path / "weights.safetensors"))  # up to 16 they are whole


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200])
def test_a_damaged_file_is_named(name: str, keep: int, tmp_path: Path) -> None:
    file = tmp_path / name
    if name.endswith(".pt"):
        torch.save(STATE, file)
    else:
        save_file({"a": torch.zeros(1000)}, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=f"The checkpoint {name} is damaged"):
        read_tensors(file)


def test_a_safetensors_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    file = tmp_path / "weights.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(file)


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {1: torch.zeros(1)}], ids=["a list", "no tensors", "numbers"]
)
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(StateDictError, match=r"weights\.pt holds no"):
        read_tensors(tmp_path / "weights.pt")
