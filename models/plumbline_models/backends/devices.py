"""What this machine offers, found without any framework: the CPU quota, the CUDA GPUs, a C compiler."""

import ctypes
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")
_DRIVER = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute of the driver API
_NAME_BYTES = 256
_CAPABILITY = re.compile(r"\(sm_(\d+)(\d)\)$")
_COMPILERS = ("cc", "gcc", "clang")


def cpu_quota(cgroups: Path = _CGROUPS) -> int | None:
    """CPUs that the container's quota amounts to, at least 1; None where there is no quota.

    Libraries count cores, not quotas; with more threads than the quota carries they are throttled.
    """
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        words = _words(cgroups / quota_file) + (_words(cgroups / period_file) if period_file else [])
        if len(words) == 2 and all(word.isdecimal() for word in words):  # noqa: PLR2004 - quota and period
            return max(1, int(words[0]) // max(1, int(words[1])))
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def cuda_devices(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[str, ...]:
    """Names and compute capabilities of the CUDA GPUs this process may use; empty without a driver."""
    try:
        driver = load(_DRIVER)
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(_describe(driver, index) for index in range(count.value))


def _describe(driver: Any, index: int) -> str:
    handle, name = ctypes.c_int(0), ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, handle)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, handle)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, handle)
    return f"{name.value.decode(errors='replace')} (sm_{major.value}{minor.value})"


def compute_capability(gpu: str) -> str | None:
    """A GPU's compute capability, for example `9.0`; None where its description has none.

    Args:
        gpu: As `cuda_devices` describes it.
    """
    found = _CAPABILITY.search(gpu)
    return ".".join(found.groups()) if found else None


def c_compiler() -> str | None:
    """The C compiler on the path; None where there is none."""
    return next(filter(None, map(shutil.which, _COMPILERS)), None)
