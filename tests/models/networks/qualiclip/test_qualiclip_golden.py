"""Scores of the authors' program, on weights that anyone can rebuild."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.protocols import BuildContext, Embedded, Score
from plumbline_models.networks.clip.archs import Arch
from plumbline_models.networks.clip.state_dicts import sort_tensors
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.encoder import QualityEncoding
from plumbline_models.networks.qualiclip.module import QualiClip as QualiClipGraph
from plumbline_models.networks.qualiclip.prompts import CLIPIQA_PAIRS, QUALICLIP
from plumbline_models.networks.qualiclip.weights import QualiClipTensors, build_qualiclip, encode_prompts
from plumbline_models.scorers.qualiclip import QualiClip

SCORE, COSINE, FEATURE = 2e-5, 2e-6, 1e-6  # the golden set's own, for float32 on any CPU
ON_OPENVINO = {  # each size once
    *("tiny_31x31", "tiny_32x32", "tiny_33x47", "sq_224x224", "std_384x512", "std_512x384", "odd_333x517"),
    *("large_1000x1500", "wide_40x640", "tall_640x40", "gray_L_200x256", "gray_LA_120x120", "rgba_horse_328x400"),
    *("rgba_ramp_160x160", "palette_200x300", "exif6_240x320", "const_black_64x96", "deg_astro_160x176_noise25"),
    "deg_cat_144x208_blur3",
}
TOO_LARGE = {  # pixels beyond which a case is left out, for the time it takes; OpenVINO has all sizes of `spread`
    "vanilla": 100_000,
    "spread": 1_000_000,
}


@pytest.fixture(scope="module")
def prompt_features(rebuilt: Mapping[str, Mapping[str, Tensor]], rn50: Arch) -> Mapping[str, Tensor]:
    return {
        name: encode_prompts(rn50, dict(sort_tensors(state).text), QUALICLIP.texts) for name, state in rebuilt.items()
    }


@pytest.fixture(scope="module")
def graphs(
    rebuilt: Mapping[str, Mapping[str, Tensor]], prompt_features: Mapping[str, Tensor], rn50: Arch
) -> Mapping[str, QualiClipGraph]:
    torch.set_num_threads(1)  # a second one only waits where other tests share the cores
    config = rn50.preprocess_config
    return {
        name: build_qualiclip(
            TrunkArch.of(rn50),
            QualiClipTensors(sort_tensors(state).image, prompt_features[name]),
            mean=config["mean"],
            std=config["std"],
        )
        for name, state in rebuilt.items()
    }


def value(margins: NDArray[np.float32], scale: float) -> float:
    scorer = QualiClip(None, scale=scale, relative_cost=1)  # type: ignore[arg-type]
    (answer,) = scorer.score(Embedded(images=[QualityEncoding(margins)]))
    assert isinstance(answer, Score)
    return answer.value


def test_pixels_are_those_that_the_authors_program_sees(
    cases: list[Mapping[str, Any]], images: Mapping[str, Pixels]
) -> None:
    found = {name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in images.items()}
    assert found == {case["id"]: case["rgb_sha256"] for case in cases}


@pytest.mark.parametrize("name", ["vanilla", "spread"])
def test_prompt_features_are_the_authors(
    prompt_features: Mapping[str, Tensor], features: Mapping[str, NDArray[Any]], name: str
) -> None:
    np.testing.assert_allclose(prompt_features[name], features[f"prompt_features_{name}"], atol=FEATURE)


@pytest.mark.parametrize("name", ["vanilla", "spread"])
def test_every_case_scores_as_the_authors_program_does(
    graphs: Mapping[str, QualiClipGraph],
    prompt_features: Mapping[str, Tensor],
    cases: list[Mapping[str, Any]],
    images: Mapping[str, Pixels],
    name: str,
) -> None:
    learned_scale = 100 if name == "spread" else 1 / 0.07  # exp(logit_scale), which CLIP-IQA takes; 1 / 0.07 untrained
    for case in (case for case in cases if case["height"] * case["width"] < TOO_LARGE[name]):
        with torch.inference_mode():
            feature = graphs[name].embed(torch.tensor(images[case["id"]])[None])
            margins = torch.matmul(feature, graphs[name].contrasts)[0].numpy()
            cosines = torch.matmul(feature, prompt_features[name].T)[0].numpy()
        expected = case[name]
        np.testing.assert_allclose(cosines, expected["cosines"], atol=COSINE, err_msg=case["id"])
        assert value(margins, 100) == pytest.approx(expected["score"], abs=SCORE), case["id"]
        assert value(margins, 50) == pytest.approx(expected["score_T2"], abs=SCORE), case["id"]
        one_pair = margins[: len(CLIPIQA_PAIRS)]
        assert value(one_pair, learned_scale) == pytest.approx(expected["clipiqa_official"], abs=SCORE), case["id"]


def test_features_are_the_authors(
    graphs: Mapping[str, QualiClipGraph], features: Mapping[str, NDArray[Any]], images: Mapping[str, Pixels]
) -> None:
    for name in ("tiny_33x47", "wide_40x640", "odd_333x517"):
        expected = features["features"][features["ids"].tolist().index(name)]
        with torch.inference_mode():
            found = graphs["spread"].embed(torch.tensor(images[name])[None])[0]
        np.testing.assert_allclose(found, expected, atol=FEATURE)


def test_the_authors_checkpoint_scores_the_same_on_openvino(
    published: Path, openvino_fp32: Backend, cases: list[Mapping[str, Any]], images: Mapping[str, Pixels]
) -> None:
    context = BuildContext(backend=openvino_fp32, registry=EncoderRegistry())
    scorer = QualiClip.build({"arch": "RN50-quickgelu", "checkpoint": published}, context)
    encoder = scorer.image
    assert encoder is not None
    encoder.load()
    assert {case["id"] for case in cases} >= ON_OPENVINO
    for case in (case for case in cases if case["id"] in ON_OPENVINO):
        encodings = encoder.encode([encoder.preprocess(images[case["id"]])])
        (answer,) = scorer.score(Embedded(images=encodings))
        assert isinstance(answer, Score)
        assert answer.value == pytest.approx(case["spread"]["score"], abs=SCORE), case["id"]
        assert answer.details["pairs"] == pytest.approx(case["spread"]["pair_probs"], abs=1e-4), case["id"]
