"""What is said of memory before anything is loaded, beside what a process takes that loads it and runs full batches."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from plumbline_models.core.arrays import Array
from plumbline_models.weights.weight_files import num_weights
from plumbline_serve.cli.memory import find_memory, machine_bytes, rule_of
from plumbline_serve.cli.weights import find_weights
from plumbline_serve.settings import Settings

LEAST, MOST = 0.7, 1.6
"""Of what was said to what was taken: 1.1 on OpenVINO and on torch where the rules were measured."""
TAKEN = """
import json, re
from pathlib import Path
from plumbline_serve.assembly import encoders_of, make_scorers
from plumbline_serve.settings import load_settings

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

encoders = encoders_of(make_scorers(load_settings()).values())
before = resident()
for encoder in encoders:
    encoder.load()
    usual = encoder._usual_input()
    encoder.encode([usual] * int(encoder.max_batch_cost // encoder.cost(usual)))
print(json.dumps(resident() - before))
"""


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_the_embedded_networks_take_about_what_is_said(backend: str, tmp_path: Path) -> None:
    said = [each.memory_bytes for each in find_weights(Settings(backend=backend, cache_dir=tmp_path), "here")]
    environment = {**os.environ, "PLUMBLINE_BACKEND": backend, "PLUMBLINE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", TAKEN]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert None not in said
    assert LEAST < sum(each or 0 for each in said) / json.loads(ran.stdout) < MOST


def test_a_machine_that_has_less_is_told_so() -> None:
    has = machine_bytes()
    assert has is not None
    [enough] = find_memory([2**20, None], Settings(backend="openvino"))
    assert enough.is_fine
    assert "besides 1 of 2 encoders, whose weights are not here" in enough.found
    [little] = find_memory([has], Settings(backend="openvino"))
    assert (little.is_fine, little.is_needed) == (False, False)
    assert "larger machine" in little.advice


def test_what_a_gpu_takes_is_not_said_of_this_machine() -> None:
    settings = Settings(backend="tensorrt")
    assert rule_of(settings) is None
    assert not list(find_memory([1], settings))
    assert all(each.memory_bytes is None for each in find_weights(settings, "here"))


def test_weights_are_counted_by_tower_and_by_what_they_are_stored_in(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {"visual.conv": np.zeros((3, 4), np.float16), "model.vision_tower.a": np.zeros(5)}
    tensors["text.b"] = np.zeros(7)
    save_file(tensors, tmp_path / "a.safetensors")
    assert [num_weights([tmp_path / "a.safetensors"], kind) for kind in ("image", "text", "pair")] == [17, 7, 7]
    assert num_weights([], "image") is None
    for kind, num_each in (("HalfStorage", 2), ("FloatStorage", 4)):
        file = tmp_path / f"{kind}.pt"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", f"ctorch\n{kind}\n")
            archive.writestr("archive/data/0", bytes(10_000))
        assert num_weights([file], "text") == file.stat().st_size // num_each
