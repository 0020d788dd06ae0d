"""A CLIP written for the Hugging Face library is the same CLIP, read by that library and by ours."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from loadtests.baselines.hugging_face_clip import LARGEST_DIFFERENCE, largest_difference, write_folder
from plumbline_models.networks.clip.hugging_face import is_hugging_face, rename

SIZES = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
}


@pytest.fixture(params=[True, False], ids=["quick_gelu", "gelu"])
def sizes(request):
    return SIZES | {"quick_gelu": request.param}


@pytest.fixture
def clip(sizes):
    torch.manual_seed(0)
    network = open_clip.CLIP(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick_gelu=sizes["quick_gelu"])
    with torch.no_grad():
        for parameter in network.parameters():  # no bias stays zero, and no norm one
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def weights(clip, tmp_path):
    tensors = {name: tensor.contiguous() for name, tensor in clip.state_dict().items() if name != "attn_mask"}
    save_file(tensors, tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


@pytest.fixture
def folder(weights, sizes, tmp_path):
    write_folder(weights, tmp_path / "folder", sizes)
    return tmp_path / "folder"


def test_the_library_gives_open_clips_embeddings(clip, folder):
    assert largest_difference(clip, folder) < LARGEST_DIFFERENCE


def test_another_networks_embeddings_are_told_apart(folder, sizes):
    other = open_clip.CLIP(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick_gelu=sizes["quick_gelu"])
    assert largest_difference(other.eval(), folder) > LARGEST_DIFFERENCE


def test_our_own_reader_of_such_folders_finds_the_same_tensors(folder: Path, weights: Path):
    written, expected = load_file(folder / "model.safetensors"), load_file(weights)
    assert is_hugging_face(written)
    found = rename(written)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("text", ["A red cup's handle!", "naïve café, 2 dogs", "", "x" * 40])
def test_the_vocabulary_gives_clips_ids(folder: Path, text: str):
    transformers = pytest.importorskip("transformers")
    ids = transformers.CLIPTokenizerFast.from_pretrained(folder)(text)["input_ids"]
    assert ids == open_clip.tokenize([text])[0, : len(ids)].tolist()
