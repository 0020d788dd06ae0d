"""Every graph of the product, built for real by tensorrt_rtx on a machine without a GPU.

The embedded weights; ViT-B/32 and RN50 at full size with random weights; the tiny networks of the golden numbers.
What is built is what the encoders ask for, so a new scorer's graphs are built here as soon as they are embedded.
Engines are not run: loading one takes a driver.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

import plumbline_models
from loadtests.goldens.preference.aesthetic import build_aesthetic
from loadtests.goldens.preference.clips import build_hpsv2
from loadtests.goldens.preference.image_reward import build_image_reward
from plumbline_models.backends import AheadCompiler, KeptEngine, open_compiler
from plumbline_models.backends.agreement import draw_inputs, fixed_sizes
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_serve.configured_scorers import tuning_of, wanted_graphs
from plumbline_serve.settings import Settings

BACKEND = "tensorrt-rtx"
pytestmark = pytest.mark.timeout(1500)  # on a crowded machine one of them took 390 s
EMBEDDED = Path(plumbline_models.__file__).parent / "embedded"
TINY_FLANT5 = Path(__file__).parents[2] / "golden" / "vqascore" / "clip_flant5_tiny"


@pytest.fixture
def random_weights(tmp_path: Path) -> Callable[[str], str]:
    """A checkpoint of an architecture of open_clip."""

    def make(arch: str) -> str:
        torch.manual_seed(5)
        state = open_clip.create_model(arch, pretrained=None).state_dict()
        file = tmp_path / f"{arch}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items() if name != "attn_mask"}, file)
        return str(file)

    return make


@pytest.fixture
def trained_further(tmp_path: Path) -> str:
    """The embedded CLIP with weights that are not quite its own."""
    folder = Path(shutil.copytree(EMBEDDED / "mini-clip", tmp_path / "mini-clip"))
    state = load_file(folder / "weights.safetensors")
    save_file({name: tensor.float() * 1.01 for name, tensor in state.items()}, folder / "weights.safetensors")
    return str(folder)


def build_all(
    cache_dir: Path, scorers: Mapping[str, Any] | None, *, strip_weights: bool = False
) -> dict[str, KeptEngine]:
    """Every engine that these scorers need, in fp16 where nothing asks for more, by its graph."""
    engines: Any = {"strip_weights": strip_weights}
    settings = Settings(backend=BACKEND, cache_dir=cache_dir, scorers=scorers, engines=engines)
    tuning = tuning_of(settings)
    compilers: dict[str, AheadCompiler] = {}
    kept: dict[str, KeptEngine] = {}
    for graph, precision in wanted_graphs(settings, BACKEND, "fp16"):
        choice: Any = precision
        compiler = compilers.setdefault(precision, open_compiler(BACKEND, precision=choice, tuning=tuning))
        kept[graph.name] = compiler.keep(graph)
    return kept


def test_the_embedded_graphs_are_built_without_weights_once_for_all_weights(
    tmp_path: Path, trained_further: str
) -> None:
    """With weights inside, the same graphs of other networks are built below."""
    kept = build_all(tmp_path / "engines", None, strip_weights=True)
    assert set(kept) >= {"clip_image", "clip_text", "clip_text_attribution", "qualiclip", "flant5_score"}
    precisions = {name: engine.precision for name, engine in kept.items()}
    assert precisions["clip_image"] == precisions["clip_text"] == "fp16"
    assert precisions["clip_text_attribution"] == precisions["clip_text_vectors"] == "fp32"
    assert not any(engine.was_found for engine in kept.values())
    assert kept["clip_text"].num_bytes < kept["clip_text"].num_weight_bytes / 4
    others = build_all(tmp_path / "engines", {"clipscore": {"checkpoint": trained_further}}, strip_weights=True)
    for name in ("clip_image", "clip_text"):
        assert others[name].was_found
        assert others[name].folder == kept[name].folder
        assert others[name].weights_folder != kept[name].weights_folder


def test_every_embedded_graph_can_be_compared_with_torch(tmp_path: Path) -> None:
    reference = TorchBackend(torch.device("cpu"), precision="fp32")
    graphs = [graph for graph, _ in wanted_graphs(Settings(backend=BACKEND, cache_dir=tmp_path), BACKEND, "fp16")]
    assert len(graphs) >= 7
    for graph in graphs:
        outputs = reference.compile(graph).run(draw_inputs(graph, fixed_sizes(graph, num_inputs=2), num_inputs=2))
        for name, values in outputs.items():
            assert np.isfinite(values).all(), (graph.name, name)
            assert np.linalg.norm(values) > 1e-3, (graph.name, name)


def test_vit_b32_is_built(tmp_path: Path, random_weights: Callable[[str], str]) -> None:
    section = {"arch": "ViT-B-32-quickgelu", "checkpoint": random_weights("ViT-B-32-quickgelu")}
    kept = build_all(tmp_path / "engines", {"clipscore": section})
    assert set(kept) == {"clip_image", "clip_text"}
    assert kept["clip_image"].profile == "pixels 1x224x224x3 8x224x224x3 64x224x224x3"
    assert kept["clip_image"].num_bytes > 160e6  # 88 million weights of two bytes


def test_a_text_tower_is_built_forward_and_backward(tmp_path: Path, tiny_folder: Path) -> None:
    kept = build_all(tmp_path, {"fclipscore": {"checkpoint": str(tiny_folder), "layers": 2}})
    assert set(kept) == {"clip_image", "clip_text_attribution", "clip_text_vectors"}
    assert kept["clip_text_attribution"].precision == kept["clip_text_vectors"].precision == "fp32"


def test_rn50_is_built_for_any_height_and_width(tmp_path: Path, random_weights: Callable[[str], str]) -> None:
    section = {"arch": "RN50-quickgelu", "checkpoint": random_weights("RN50-quickgelu")}
    kept = build_all(tmp_path / "engines", {"qualiclip": section})
    assert kept["qualiclip"].profile == "pixels 1x31x31x3 1x384x512x3 4x4096x4096x3"
    assert kept["qualiclip"].precision == "fp16"


def test_clip_flant5_is_built_in_a_type_that_holds_its_values(tmp_path: Path) -> None:
    kept = build_all(tmp_path, {"vqascore": {"model": str(TINY_FLANT5)}})
    assert {name: engine.precision for name, engine in kept.items()} == {"flant5_image": "fp16", "flant5_score": "bf16"}


def test_image_rewards_tower_and_text_encoder_are_built(tmp_path: Path) -> None:
    kept = build_all(tmp_path / "engines", {"imagereward": {"model": str(build_image_reward(tmp_path))}})
    assert {name: engine.precision for name, engine in kept.items()} == {"blip_image": "fp16", "blip_reward": "fp16"}
    assert kept["blip_reward"].profile.startswith("token_ids 1x8 8x16 32x40")


def test_a_letterbox_of_floats_is_built(tmp_path: Path) -> None:
    kept = build_all(tmp_path / "engines", {"hpsv2": {"model": str(build_hpsv2(tmp_path))}})
    assert set(kept) == {"clip_image", "clip_text"}


def test_siglips_image_tower_is_built(tmp_path: Path) -> None:
    build_aesthetic(tmp_path)
    section = {"encoder": {"checkpoint": str(tmp_path / "siglip")}, "weights": str(tmp_path / "v2_5.pth")}
    assert set(build_all(tmp_path / "engines", {"aesthetic": section})) == {"clip_image"}
