import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plumbline_models.backends.devices import cpu_quota, cuda_devices


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"cpu.max": "400000 100000\n"}, 4, id="whole CPUs"),
        pytest.param({"cpu.max": "250000 100000\n"}, 2, id="a half is not counted"),
        pytest.param({"cpu.max": "20000 100000\n"}, 1, id="never none"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="no quota"),
        pytest.param({}, None, id="no control groups"),
        pytest.param({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, id="version 1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, id="version 1, none"),
    ],
)
def test_the_quota_of_the_container_is_read(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == expected


def put(pointer: Any, value: int) -> int:
    ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = value
    return 0


def put_name(buffer: ctypes.Array[ctypes.c_char]) -> int:
    buffer.value = b"Plumb 100"
    return 0


def driver(status: int = 0) -> SimpleNamespace:
    """Answers like the CUDA driver, for one GPU."""
    return SimpleNamespace(
        cuInit=lambda _flags: status,
        cuDeviceGetCount=lambda count: put(count, 1),
        cuDeviceGet=put,
        cuDeviceGetName=lambda name, _size, _handle: put_name(name),
        cuDeviceGetAttribute=lambda value, attribute, _handle: put(value, {75: 9, 76: 0}[attribute]),
    )


def missing_library(name: str) -> SimpleNamespace:
    raise OSError(f"{name}: cannot open shared object file")


def test_gpus_are_listed_with_their_compute_capability() -> None:
    assert cuda_devices(lambda _name: driver()) == ("Plumb 100 (sm_90)",)


def test_without_a_driver_there_is_no_gpu() -> None:
    assert cuda_devices(missing_library) == ()


def test_a_driver_that_does_not_start_has_no_gpu() -> None:
    assert cuda_devices(lambda _name: driver(status=100)) == ()
