"""Qwen3-VL on a random network made here: shared prefix and tails against the library's plain run of whole prompts."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from loadtests.goldens.vqascore import GOLDEN, context, encode_images, load, scores
from plumbline_models.core.errors import ConfigError, StateDictError

TEXTS = ("a dog", "", "Two dogs, one red car & 3 coins!", "(odd) beginning", "a cup of coffee " * 8)
SHAPES = ((96, 160), (200, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The published layout: the golden Qwen2.5-VL's vocabulary, patches of 16, features of two tower layers below."""
    made = tmp_path_factory.mktemp("qwen3vl_tiny")
    shutil.copytree(GOLDEN / "qwen25vl_tiny" / "tokenizer", made / "tokenizer")
    torch.manual_seed(3)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text: dict[str, Any] = {"vocab_size": 388, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    text |= {"head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope}
    vision: dict[str, Any] = {"depth": 3, "hidden_size": 24, "intermediate_size": 40, "num_heads": 2}
    vision |= {
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "patch_size": 16,
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, image_token_id=386, video_token_id=387)
    network = Qwen3VLForConditionalGeneration(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 1.0)
    network.save_pretrained(made)
    pixels = {"size": {"shortest_edge": 4096, "longest_edge": 65536}, "patch_size": 16, "merge_size": 2}
    pixels |= {"temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (made / "preprocessor_config.json").write_text(json.dumps(pixels), encoding="utf-8")
    return made


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_scores_are_those_of_whole_prompts(folder, backend, tmp_path):
    scorer = load("qwen3-vl", context(tmp_path, backend=backend), model=str(folder))
    images = [np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    of_images = encode_images(scorer, images)
    assert of_images[0].tokens.shape[0] == 3  # the prompt's tokens, and what two deeper layers add to them
    found = [score.value for score in scores(scorer, [(encoding, text) for encoding in of_images for text in TEXTS])]
    plain = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    expected = [_whole(plain, scorer, image, text) for image in images for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=3e-5, rtol=0)
    assert np.ptp(found) > 1e-3  # not one number for all


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no qwen3-vl"):
        load("qwen3-vl", context(tmp_path), model=str(GOLDEN / "qwen25vl_tiny"))


def test_a_checkpoint_that_lacks_a_tensor_is_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    state = load_file(broken / "model.safetensors")
    state.pop(next(name for name in state if name.endswith("q_proj.weight")))
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StateDictError, match="q_proj"):
        load("qwen3-vl", context(tmp_path), model=str(broken))


@torch.inference_mode()
def _whole(plain, scorer, image, text):
    preprocessed, prompt = scorer.image.preprocess(image), scorer.pair._prompt
    rows_, columns = preprocessed.resized.grid
    tail = prompt.tail(text)
    ids = torch.tensor([[*prompt.head_ids(preprocessed.resized.grid, rows_ * columns), *tail.ids]])
    planes = torch.tensor(preprocessed.resized.tiles[0]).permute(2, 0, 1).float() / 127.5 - 1
    cut = planes.reshape(3, rows_, 2, 16, columns, 2, 16).permute(1, 4, 2, 5, 0, 3, 6)
    patches = cut.unsqueeze(5).expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(rows_ * columns * 4, -1)
    logits = plain(
        input_ids=ids,
        pixel_values=patches,
        image_grid_thw=torch.tensor([[1, 2 * rows_, 2 * columns]]),
        mm_token_type_ids=(ids == prompt.placeholder_id).int(),
    ).logits
    return float(logits[0, -1].softmax(-1)[tail.answer_ids[0]])
