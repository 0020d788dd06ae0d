"""LLaVA-1.5 in the transformers library's layouts: the golden network written anew, with the recorded scores."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loadtests.goldens.vqascore import FOLDERS, GOLDEN, TOLERANCES, context, encode_images, load, pixels, record, scores
from plumbline_models.core.errors import CheckpointError, StateDictError
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES

OWN = GOLDEN / FOLDERS["llava-1.5"]
NEWER = {
    "model.language_model.": "model.language_model.",
    "model.vision_tower.": "model.vision_tower.",
    "model.multi_modal_projector.": "model.multi_modal_projector.",
    "lm_head.": "lm_head.",
}
OLDER = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}


@pytest.fixture
def ported(tmp_path):
    """Writes the golden network as the library names its parts, under one of its two nestings."""

    def write(nesting):
        network = CausalCheckpoint(str(OWN), CAUSAL_FAMILIES["llava-1.5"]).network
        folder = tmp_path / "ported"
        network.config.save_pretrained(folder)
        state = {}
        for name, tensor in network.state_dict().items():
            old = next(prefix for prefix in nesting if name.startswith(prefix))
            state[nesting[old] + name.removeprefix(old)] = tensor.contiguous()
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        shutil.copytree(OWN / "tokenizer", folder, dirs_exist_ok=True)  # beside the weights, as there
        shutil.copy(OWN / "preprocessor_config.json", folder)
        return folder

    return write


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_quantised_tensor_is_named(dtype, ported, tmp_path):
    folder, name = ported(NEWER), "lm_head.weight"
    state = load_file(folder / "model.safetensors")
    state |= {name: state[name].to(dtype), f"{name}_scale": torch.ones(1)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StateDictError, match=f"The checkpoint's {name} is stored as "):
        load("llava-1.5", context(tmp_path), model=str(folder))


def test_an_ending_that_is_not_true_is_named(ported, tmp_path):
    folder = ported(NEWER)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is safetensors under the ending \.bin: rename it"):
        load("llava-1.5", context(tmp_path), model=str(folder))


def test_the_weights_of_a_tower_that_lies_apart_are_part_of_the_digest(tmp_path):
    folder, tower = shutil.copytree(OWN, tmp_path / "own"), tmp_path / "own" / "tower"
    state = load_file(folder / "model.safetensors")
    inside = {name: tensor for name, tensor in state.items() if name.startswith("model.vision_tower.")}
    save_file({name: tensor for name, tensor in state.items() if name not in inside}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "mm_vision_tower": "tower"}), encoding="utf-8")
    tower.mkdir()
    digests = []
    for shift in (0.0, 1.0):
        moved = {name.removeprefix("model.vision_tower.vision_tower."): each + shift for name, each in inside.items()}
        save_file(moved, tower / "model.safetensors", metadata={"format": "pt"})
        checkpoint = CausalCheckpoint(str(folder), CAUSAL_FAMILIES["llava-1.5"])
        digests.append(checkpoint.sha256)
        first = "embeddings.class_embedding"
        found = checkpoint.network.state_dict()[f"model.vision_tower.{first}"]
        torch.testing.assert_close(found, moved[f"vision_model.{first}"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize("nesting", [pytest.param(NEWER, id="newer"), pytest.param(OLDER, id="as published")])
def test_both_nestings_of_the_library_score_as_recorded(nesting, ported, tmp_path):
    folder, case = ported(nesting), record("llava-1.5")["cases"][0]
    assert "mm_vision_tower" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert set(load_file(folder / "model.safetensors")) != set(load_file(OWN / "model.safetensors"))
    scorer = load("llava-1.5", context(tmp_path), model=str(folder))
    of_images = encode_images(scorer, [pixels("llava-1.5", image) for image in case["images"]])
    answered = scores(scorer, [(encoding, text) for encoding in of_images for text in case["texts"]])
    found = np.array([score.value for score in answered]).reshape(len(of_images), -1)
    np.testing.assert_allclose(found, case["scores_ref_f64"], atol=TOLERANCES["llava-1.5"], rtol=0)
