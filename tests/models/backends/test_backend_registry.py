import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plumbline_models.backends import (
    BACKENDS,
    BackendEntry,
    BackendRegistry,
    Tuning,
    available_backends,
    open_backend,
)
from plumbline_models.backends import registry as registry_module
from plumbline_models.backends.devices import cuda_devices
from plumbline_models.backends.tuning import Device
from plumbline_models.core.errors import BackendUnavailableError, ConfigError

FAKE_MODULE = "plumbline_models.backends.fake"
# Stands where a backend for GPUs would: chosen by the same rules, opened for real.
GPU_ENTRY = BackendEntry(
    name="gpu", module=FAKE_MODULE, packages=("numpy",), hint="pip install gpu", automatic_on=frozenset({"cuda"})
)
ABSENT = replace(GPU_ENTRY, packages=("not_installed_anywhere",))
BY_NAME = {entry.name: entry for entry in BACKENDS}
CPU_ENTRY = BY_NAME["openvino"]


def registry(*entries: BackendEntry, num_gpus: int) -> BackendRegistry:
    return BackendRegistry(entries, find_gpus=lambda: ("Plumb 100",) * num_gpus)


@pytest.mark.parametrize(
    ("first", "num_gpus", "device", "expected"),
    [
        pytest.param(GPU_ENTRY, 1, "auto", "fake", id="a GPU and a backend for it"),
        pytest.param(GPU_ENTRY, 1, "cuda", "fake", id="a GPU asked for"),
        pytest.param(GPU_ENTRY, 0, "auto", "openvino", id="no GPU"),
        pytest.param(GPU_ENTRY, 1, "cpu", "openvino", id="the CPU asked for"),
        pytest.param(ABSENT, 1, "auto", "openvino", id="a GPU but no backend for it"),
    ],
)
def test_auto_takes_the_first_backend_that_is_of_use(
    tmp_path: Path, first: BackendEntry, num_gpus: int, device: Device, expected: str
) -> None:
    backends = registry(first, CPU_ENTRY, num_gpus=num_gpus)
    opened = backends.open("auto", precision="fp32", tuning=Tuning(tmp_path, device=device))
    assert opened.name == expected


def test_auto_passes_over_tensorrt_for_rtx_on_a_gpu_that_it_does_not_run_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = (replace(BY_NAME["tensorrt-rtx"], automatic_on=frozenset({"cuda"})), CPU_ENTRY)
    hopper = BackendRegistry(entries, find_gpus=lambda: ("a (sm_90)",))
    ada = BackendRegistry(entries, find_gpus=lambda: ("b (sm_89)",))
    assert hopper.open("auto", precision="fp32", tuning=Tuning(tmp_path)).name == "openvino"
    assert "a (sm_90) has 9.0: install tensorrt" in caplog.text
    assert ada.open("auto", precision="fp32", tuning=Tuning(tmp_path)).name == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("gpu", "device", "expected"),
    [
        pytest.param("H200 (sm_90)", "auto", "torch-compile", id="Hopper"),
        pytest.param("B200 (sm_100)", "auto", "torch-compile", id="Blackwell"),
        pytest.param("B300 (sm_103)", "auto", "torch-compile", id="Blackwell Ultra"),
        pytest.param("A100 (sm_80)", "auto", "torch", id="Ampere in a data centre"),
        pytest.param("RTX 4090 (sm_89)", "auto", "tensorrt", id="tensorrt_rtx runs on it"),
        pytest.param("H200 (sm_90)", "cpu", "openvino", id="the CPU asked for"),
        pytest.param(None, "auto", "openvino", id="no GPU"),
    ],
)
def test_auto_uses_a_gpu_that_tensorrt_for_rtx_does_not_run_on(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, device: Device, expected: str
) -> None:
    monkeypatch.setattr(registry_module, "_version", lambda _: "2.14.1+cu130")
    backends = BackendRegistry(find_gpus=lambda: (gpu,) if gpu else ())
    assert backends.choose("auto", device).name == expected


@pytest.mark.parametrize(
    ("version", "path", "expected"),
    [
        pytest.param("2.14.1+cpu", None, "openvino", id="a torch without CUDA"),
        pytest.param("2.14.1", "", "torch", id="no C compiler"),
    ],
)
def test_auto_says_why_a_gpu_is_not_used_as_it_could_be(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str,
    path: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(registry_module, "_version", lambda _: version)
    if path is not None:
        monkeypatch.setenv("PATH", path)
    backends = BackendRegistry(find_gpus=lambda: ("H200 (sm_90)",))
    assert backends.choose("auto", "auto").name == expected
    assert "The torch-compile backend would come first." in caplog.text


def test_auto_with_a_gpu_asked_for_and_none_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="no CUDA GPU here"):
        registry(GPU_ENTRY, num_gpus=0).open("auto", precision="auto", tuning=Tuning(tmp_path, device="cuda"))


def test_auto_with_nothing_installed_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="Install one with: pip install gpu"):
        registry(ABSENT, num_gpus=1).open("auto", precision="auto", tuning=Tuning(tmp_path))


def test_a_backend_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"gpu backend is not installed.*pip install gpu"):
        registry(ABSENT, num_gpus=1).open("gpu", precision="auto", tuning=Tuning(tmp_path))


def test_a_backend_that_does_not_load_is_unavailable(tmp_path: Path) -> None:
    broken = replace(GPU_ENTRY, module="plumbline_models.backends.not_there")
    backends = registry(broken, num_gpus=1)
    with pytest.raises(BackendUnavailableError, match="installed but does not load"):
        backends.open("gpu", precision="auto", tuning=Tuning(tmp_path))
    (status,) = backends.statuses()
    assert (status.is_available, status.devices) == (False, ())
    assert "numpy does not load" in status.hint
    assert status.version is not None


def test_an_unknown_backend_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="called onnx; there are tensorrt, tensorrt-rtx, torch-compile, openvino"):
        open_backend("onnx", precision="auto", tuning=Tuning(tmp_path))


@pytest.mark.parametrize("entry", BACKENDS, ids=lambda entry: entry.name)
def test_every_backend_opens_by_its_name(tmp_path: Path, entry: BackendEntry) -> None:
    assert open_backend(entry.name, precision="fp32", tuning=Tuning(tmp_path)).name == entry.name


def test_statuses_tell_version_and_devices_and_leave_the_fake_out() -> None:
    statuses = {status.name: status for status in available_backends()}
    assert set(statuses) == {"tensorrt", "torch-compile", "openvino", "torch"}
    for status in statuses.values():
        assert status.version
        if status.name == "tensorrt" and not cuda_devices():
            assert (status.is_available, status.devices) == (False, ())
            assert status.hint == "There is no NVIDIA GPU here for the tensorrt backend to run on."
            continue
        assert status.is_available
        assert status.devices
        assert status.hint == ""


def test_a_missing_backend_has_a_hint_in_its_status() -> None:
    (status,) = registry(ABSENT, num_gpus=0).statuses()
    assert (status.is_available, status.version, status.hint) == (False, None, "pip install gpu")


def test_importing_the_backends_imports_no_framework() -> None:
    program = "import sys, plumbline_models.backends; print(sorted({'torch', 'openvino', 'onnx'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert result.stdout == "[]\n"
