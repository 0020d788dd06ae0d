"""The section of the configuration for causal families, and what is told of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.goldens.vqascore import GOLDEN, context, encode_images, load, scores
from plumbline_models.core.errors import (
    BackendUnavailableError,
    CheckpointError,
    ConfigError,
    InvalidFieldError,
    TextTooLongError,
)
from plumbline_models.core.protocols import BuildContext, PairInput
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_models.weights.licences import licence_of

SMOL = {"family": "smolvlm", "model": str(GOLDEN / "smolvlm_tiny")}
QWEN = {"family": "qwen2.5-vl", "model": str(GOLDEN / "qwen25vl_tiny")}
LLAVA = {"family": "llava-1.5", "model": str(GOLDEN / "llava15_tiny")}
TINY = str(GOLDEN / "clip_flant5_tiny")
IMAGE = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"family": "smolvlm"}, "needs a model", id="no model"),
        pytest.param({**SMOL, "image_aspect_ratio": "pad"}, "neither image_aspect_ratio", id="not its setting"),
        pytest.param({**SMOL, "repetition_penalty": 0.5}, "repetition_penalty", id="out of range"),
        pytest.param({**SMOL, "max_pixels": 0}, "max_pixels", id="no pixels"),
        pytest.param({"model": TINY, "tiles": True}, "clip-flant5 takes neither", id="tiles of another family"),
    ],
)
def test_a_section_that_does_not_fit_is_refused(options, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        VqaScore.build(options, context(tmp_path))


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ({"model": TINY}, "clip-flant5"),
        ({"model": LLAVA["model"]}, "llava-1.5"),
        ({"model": QWEN["model"]}, "qwen2.5-vl"),
        ({"model": SMOL["model"]}, "smolvlm"),
        ({"model": "Qwen/Qwen3-VL-4B-Instruct"}, "qwen3-vl"),
        ({"model": "zhiqiulin/clip-flant5-xl"}, "clip-flant5"),
        ({}, "clip-flant5"),
    ],
    ids=str,
)
def test_the_family_is_read_from_the_checkpoint(options, family, tmp_path):
    assert VqaScore.build(options, context(tmp_path)).conventions["family"] == family


@pytest.mark.parametrize(
    ("stated", "model", "found"),
    [
        ("smolvlm", LLAVA["model"], "llava-1.5"),
        ("qwen3-vl", TINY, "clip-flant5"),
        ("clip-flant5", QWEN["model"], "qwen2.5-vl"),
    ],
)
def test_a_family_that_the_checkpoint_contradicts_is_refused_by_name(stated, model, found, tmp_path):
    with pytest.raises(ConfigError, match=f"is no {stated}: by its config.json it is a {found}"):
        VqaScore.build({"model": model, "family": stated}, context(tmp_path))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "paligemma"}, "model_type paligemma, which is of no family here: there are clip-flant5, llava"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "cuts images into tiles"),
        ({"mm_vision_select_feature": "cls_patch"}, "reads the tower's class token"),
        ({"vision_feature_select_strategy": "full"}, "reads the tower's class token"),
        ({"vision_feature_layer": [-2, -3]}, "reads several tower layers"),
    ],
)
def test_a_checkpoint_of_no_family_is_refused_by_name(changed, reason, tmp_path):
    config = json.loads((Path(LLAVA["model"]) / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=reason):
        VqaScore.build({"model": str(tmp_path)}, context(tmp_path))


@pytest.mark.parametrize("options", [{**SMOL, "max_pixels": 10_000}, {**QWEN, "tiles": False}])
def test_a_setting_of_images_that_the_family_lacks_is_refused_when_loading(options, tmp_path):
    with pytest.raises(ConfigError, match="does not take this setting"):
        load(within=context(tmp_path), **options)


def test_settings_of_images_are_part_of_the_key_and_change_what_is_read(tmp_path):
    torch_context = context(tmp_path)
    plain, whole = load(within=torch_context, **SMOL), load(within=torch_context, tiles=False, **SMOL)
    assert plain.image.key != whole.image.key
    assert (
        plain.image.preprocess(IMAGE).resized.tiles.shape[0] > whole.image.preprocess(IMAGE).resized.tiles.shape[0] == 1
    )
    small = load(within=torch_context, max_pixels=28 * 28 * 4, **QWEN)
    assert small.image.preprocess(IMAGE).resized.tiles.shape[1:3] == (28, 56)
    assert all(0 < score.value < 1 for score in scores(small, [(encode_images(small, [IMAGE])[0], "a dog")]))


def test_the_wording_and_the_penalty_are_part_of_the_key(tmp_path):
    torch_context = context(tmp_path)
    keys = [
        VqaScore.build({**QWEN, **more}, torch_context).pair.key for more in ({}, {"question": "{}?"}, {"answer": "No"})
    ]
    keys.append(VqaScore.build({**QWEN, "repetition_penalty": 1.05}, torch_context).pair.key)
    assert len(set(keys)) == 4


def test_what_was_loaded_is_told(tmp_path):
    scorer = load(within=context(tmp_path), **SMOL)
    info, image = scorer.pair.info(), scorer.image.info()
    assert (info.arch, info.backend, info.precision, info.dim) == ("smolvlm", "torch", "fp32", 24)
    assert info.notes["conventions"].startswith("first_token")
    assert (info.notes["answer"], info.notes["family"]) == (" Yes", "smolvlm")
    assert "tiles of 56 px" in image.notes["pixels"]
    assert scorer.conventions == {
        "value": "probability of the answer's first token",
        "family": "smolvlm",
        "question": 'Does this figure show "{}"? Please answer Yes or No.',
        "answer": " Yes",
    }


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("liuhaotian/llava-v1.5-7b", "Llama 2 community licence"),
        ("llava-hf/llava-1.5-7b-hf", "Llama 2 community licence"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen research licence, research use only"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Apache-2.0"),
        ("HuggingFaceTB/SmolVLM-256M-Instruct", "Apache-2.0"),
        ("someone/else", "unknown"),
    ],
)
def test_licences_are_told_by_name(name, licence):
    assert licence_of(name) == licence


def test_texts_too_long_to_read_and_what_is_no_pair_are_refused(tmp_path):
    scorer = load(within=context(tmp_path), **SMOL)
    (encoding,) = encode_images(scorer, [IMAGE])
    with pytest.raises(TextTooLongError):
        scorer.pair.preprocess(PairInput("dog " * 2000, encoding))
    with pytest.raises(InvalidFieldError):
        scorer.pair.preprocess(PairInput("a dog", np.zeros(3)))
    with pytest.raises(InvalidFieldError):
        scorer.image.preprocess("a dog")


def test_where_the_compiler_does_not_take_the_network_torch_runs_it(tmp_path):
    torch = context(tmp_path).backend

    class Other:
        name = "torch-compile"
        precision = "fp32"

        def compile(self, graph):
            raise NotImplementedError

    with pytest.raises(BackendUnavailableError, match="torch"):
        load(within=BuildContext(Other(), EncoderRegistry()), **SMOL)
    assert (
        load(within=BuildContext(Other(), EncoderRegistry(), open_torch=lambda: torch), **SMOL).pair.info().backend
        == "torch"
    )


def test_without_the_packages_the_scorer_says_which_extra_it_needs(tmp_path):
    script = """
import sys
sys.modules["transformers"] = None  # as where it is not installed: not to be found, and not to be imported
import importlib.util
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.core.errors import ConfigError
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES
try:
    CausalCheckpoint(sys.argv[1], CAUSAL_FAMILIES["smolvlm"])
except ConfigError as error:
    print(error.detail)
"""
    ran = subprocess.run([sys.executable, "-c", script, SMOL["model"]], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == ('The family smolvlm needs more packages: pip install "plumbline-serve[vlm]".'), (
        ran.stderr
    )
