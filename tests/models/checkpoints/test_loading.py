import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from plumbline_models.checkpoints.loading import read_tensors
from plumbline_models.core.errors import CheckpointError, StateDictError, UnsafeCheckpointError

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
