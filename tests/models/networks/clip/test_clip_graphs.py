import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from plumbline_models.core.errors import CheckpointNotFoundError
from plumbline_models.core.graph import Dim
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.weights.sources import LocalFile


def prints(spec: ClipSpec) -> tuple[str, str]:
    return clip_image_graph(spec).fingerprint, clip_text_graph(spec).fingerprint


def test_equal_clips_have_equal_fingerprints_wherever_they_lie(tiny_folder: Path, tmp_path: Path) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    here, there = (ClipSpec.of(ClipSection(checkpoint=folder)) for folder in (tiny_folder, tmp_path))
    assert prints(here) == prints(there)
    assert len(set(prints(here))) == 2


def test_other_weights_have_other_fingerprints(tiny_folder: Path, tiny_spec: ClipSpec, tmp_path: Path) -> None:
    tensors = load_file(tiny_folder / "open_clip_model.safetensors")
    tensors["logit_scale"] = np.zeros_like(tensors["logit_scale"])
    save_file(tensors, tmp_path / "other.safetensors")
    other = dataclasses.replace(tiny_spec, weights=LocalFile(tmp_path / "other.safetensors"))
    assert not set(prints(tiny_spec)) & set(prints(other))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda arch: {"config": {**arch.config, "quick_gelu": False}}, id="activation"),
        pytest.param(lambda arch: {"preprocess": {**arch.preprocess, "mean": [0.5, 0.5, 0.5]}}, id="mean"),
    ],
)
def test_another_architecture_has_other_fingerprints(
    change: Callable[[Arch], dict[str, Any]], tiny_spec: ClipSpec
) -> None:
    arch = dataclasses.replace(tiny_spec.arch, **change(tiny_spec.arch))
    assert not set(prints(tiny_spec)) & set(prints(dataclasses.replace(tiny_spec, arch=arch)))


def test_a_graph_says_what_it_takes_and_gives(tiny_spec: ClipSpec) -> None:
    image, text = clip_image_graph(tiny_spec), clip_text_graph(tiny_spec)
    batch, *sizes = image.inputs[0].shape
    assert (image.inputs[0].name, image.inputs[0].dtype, sizes) == ("pixels", "uint8", [32, 32, 3])
    assert isinstance(batch, Dim)
    assert (batch.low, batch.high) == (1, 64)
    length = text.inputs[0].shape[1]
    assert isinstance(length, Dim)
    assert (text.inputs[0].name, text.inputs[0].dtype, length.high) == ("token_ids", "int64", 77)
    assert image.output_shapes == text.output_shapes == ((batch, 24),)


def test_pixels_are_normalised_inside_the_graph(tiny_spec: ClipSpec) -> None:
    module = clip_image_graph(tiny_spec).build()
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.3, 0.25, 0.2])
    with torch.inference_mode():
        made = module.tower(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
        expected = made / made.norm(dim=1, keepdim=True)
        assert torch.allclose(module(pixels), expected, atol=1e-6, rtol=0)


def test_missing_weights_are_named_before_anything_is_built(tiny_spec: ClipSpec, tmp_path: Path) -> None:
    gone = dataclasses.replace(tiny_spec, weights=LocalFile(tmp_path / "gone.bin"))
    with pytest.raises(CheckpointNotFoundError, match=r"no checkpoint gone\.bin"):
        clip_image_graph(gone)


def test_graphs_are_described_without_torch(tiny_folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; "
        "from plumbline_models.networks.clip.spec import ClipSection, ClipSpec; "
        "from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph; "
        "spec = ClipSpec.of(ClipSection(checkpoint=Path(sys.argv[1]))); "
        "clip_image_graph(spec); clip_text_graph(spec); "
        "assert not {'torch', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tiny_folder)], check=True)
