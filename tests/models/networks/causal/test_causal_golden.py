"""The causal families against the recorded scores, on the same tiny weights: all pairs of a case in one batch."""

import json
import shutil
from typing import Any, cast

import numpy as np
import pytest

from loadtests.goldens.vqascore import (
    FOLDERS,
    GOLDEN,
    TOLERANCES,
    context,
    encode_images,
    from_cache,
    load,
    pixels,
    record,
    scores,
)
from plumbline_models.core.protocols import PairInput
from plumbline_models.scorers.vqascore import VqaScore
from tests.results import succeeded

RECORDED = {
    "scores_official_fp32": 1.0,
    "scores_raw_logits_fp32": 1.0,
    "scores_repetition_penalty_1_05_fp32": 1.05,
}
"""Names of records, and the repetition penalty that they were made with."""
CASES = [
    pytest.param(family, case["id"], kind, id=f"{family}-{case['id']}-{RECORDED[kind]}")
    for family in FOLDERS
    for case in record(family)["cases"]
    for kind in RECORDED
    if kind in case
]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    return {name: context(folder, backend=name) for name in ("torch", "openvino")}


@pytest.fixture(scope="module")
def torch_context(contexts):
    return contexts["torch"]


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(("family", "name", "kind"), CASES)
def test_scores_are_the_recorded_ones(family, name, kind, backend, contexts):
    case = next(case for case in record(family)["cases"] if case["id"] == name)
    scorer = load(
        family,
        contexts[backend],
        question=case["question_template"],
        answer=case["answer_template"],
        repetition_penalty=RECORDED[kind],
    )
    assert {scorer.image.info().backend, scorer.pair.info().backend} == {backend}
    of_images = encode_images(scorer, [pixels(family, image) for image in case["images"]])
    for encoded in (of_images, from_cache(of_images)):
        assert encoded[0].tokens.flags.writeable is (encoded is of_images)
        answered = scores(scorer, [(encoding, text) for encoding in encoded for text in case["texts"]])
        found = np.array([score.value for score in answered]).reshape(len(of_images), -1)
        np.testing.assert_allclose(found, case[kind], atol=TOLERANCES[family], rtol=0)
        if RECORDED[kind] == 1.0:
            np.testing.assert_allclose(found, case["scores_ref_f64"], atol=TOLERANCES[family], rtol=0)


def test_distinct_pairs_in_one_call_score_as_recorded(torch_context):
    family, scorer = "llava-1.5", load("llava-1.5", torch_context)
    recorded = record(family)["one_text_per_image"]
    of_images = encode_images(scorer, [pixels(family, image) for image in recorded["images"]])
    found = [score.value for score in scores(scorer, list(zip(of_images, recorded["texts"], strict=True)))]
    np.testing.assert_allclose(found, recorded["scores_official_fp32"], atol=TOLERANCES[family], rtol=0)


def test_p_no_beside_the_score_closes_the_recorded_ratio(torch_context):
    family, scorer = "qwen2.5-vl", load("qwen2.5-vl", torch_context)
    case = record(family)["cases"][0]
    of_images = encode_images(scorer, [pixels(family, image) for image in case["images"]])
    answered = scores(scorer, [(encoding, text) for encoding in of_images for text in case["texts"]])
    found = np.array([score.value / (score.value + score.details["p_no"]) for score in answered])
    np.testing.assert_allclose(found, np.ravel(case["yes_over_yes_plus_no_fp32"]), atol=3e-5, rtol=0)
    assert all("log_p_eos" not in score.details for score in answered)


@pytest.mark.parametrize("family", FOLDERS)
def test_a_pair_scores_the_same_alone_reordered_or_beside_others(family, torch_context):
    scorer, case = load(family, torch_context), record(family)["cases"][1]
    (encoding,) = encode_images(scorer, [pixels(family, case["images"][0])])
    pairs = [(encoding, text) for text in case["texts"]]
    together = [score.value for score in scores(scorer, pairs)]
    backwards = [score.value for score in scores(scorer, pairs[::-1])][::-1]
    alone = [scores(scorer, [pair])[0].value for pair in pairs]
    np.testing.assert_allclose(backwards, together, atol=2e-6, rtol=0)
    np.testing.assert_allclose(alone, together, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", FOLDERS)
def test_images_encoded_together_have_the_encodings_that_they_have_alone(family, torch_context):
    scorer = load(family, torch_context)
    image = pixels(family, "astronaut")
    preprocessed = [scorer.image.preprocess(each) for each in (image, image[::-1].copy())]
    first, second = succeeded(scorer.image.encode(preprocessed))
    [alone] = succeeded(scorer.image.encode(preprocessed[:1]))
    np.testing.assert_allclose(first.tokens, alone.tokens, atol=1e-5, rtol=0)
    assert len({first.key, second.key, alone.key}) == 3  # what is kept of an image is that of these very tokens
    assert succeeded(scorer.image.encode(preprocessed[:1]))[0].key == alone.key


def test_a_tower_with_windows_of_three_groups_is_compiled(contexts, tmp_path):
    folder = tmp_path / "windows-of-three"
    shutil.copytree(GOLDEN / FOLDERS["qwen2.5-vl"], folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vision_config"]["window_size"] = 84
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    image = pixels("qwen2.5-vl", "astronaut")[:140, :224]
    found = []
    for name in ("torch", "openvino"):
        encoder = VqaScore.build({"model": str(folder)}, contexts[name]).image
        encoder.load()
        found += succeeded(encoder.encode([encoder.preprocess(image)]))
        assert encoder.info().backend == name
    np.testing.assert_allclose(found[1].tokens, found[0].tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FOLDERS)
def test_bf16_moves_scores_by_its_own_rounding_and_no_more(family, torch_context, tmp_path):
    case = record(family)["cases"][0]
    low = load(family, context(tmp_path, "bf16"))
    of_images = encode_images(low, [pixels(family, image) for image in case["images"][:2]])
    found = [
        score.value for score in scores(low, [(encoding, text) for encoding in of_images for text in case["texts"]])
    ]
    # 8 bits of mantissa over a whole network; rounded rotary frequencies would be off by tenths on long prompts
    np.testing.assert_allclose(found, np.ravel(case["scores_ref_f64"][:2]), atol=0.05, rtol=0)


@pytest.mark.parametrize("family", FOLDERS)
def test_the_prefix_of_an_image_is_read_once_however_many_captions_and_batches_there_are(family, torch_context):
    scorer = load(family, torch_context)
    module = cast("Any", scorer.pair)._loaded.engine._engine._module
    sizes = []
    hook = module.language.register_forward_pre_hook(
        lambda _module, _args, kwargs: sizes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    image = pixels(family, "coffee")
    encoding, again = encode_images(scorer, [image, image])
    module._kept.pop(encoding.key)
    texts = ["a dog", "two dogs", "a cup of coffee on a wooden table"] * 20
    scores(scorer, [(encoding if index % 2 else again, text) for index, text in enumerate(texts)])
    hook.remove()
    preprocessed = [
        scorer.pair.preprocess(PairInput(text, image_encoding))
        for text, image_encoding in zip(texts, (encoding, again), strict=False)
    ]
    assert preprocessed[0].image.key == preprocessed[1].image.key
    prefix, *tails = sizes
    assert [size for size, _ in tails] == [32, 28]
    assert prefix[0] == 1
    assert prefix[1] > encoding.tokens.shape[1]
    assert all(length < 120 for _, length in tails)
