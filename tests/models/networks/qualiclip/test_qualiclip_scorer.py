"""The encoder and the scorer on tiny weights: sizes, limits, prompts, scale."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import (
    ConfigError,
    ImageTooSmallError,
    InvalidFieldError,
    MissingImageError,
    SetupError,
    StateDictError,
)
from plumbline_models.core.protocols import BuildContext, Embedded, Score
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.qualiclip.encoder import QualiClipEncoder, QualityEncoding
from plumbline_models.networks.qualiclip.prompts import QUALICLIP_PAIRS
from plumbline_models.scorers.qualiclip import QualiClip
from tests.results import succeeded


@pytest.fixture
def context(torch_fp32: Backend) -> BuildContext:
    return BuildContext(backend=torch_fp32, registry=EncoderRegistry())


def build(context: BuildContext, checkpoint: Path, **options: Any) -> tuple[QualiClip, QualiClipEncoder]:
    scorer = QualiClip.build({"checkpoint": checkpoint, **options}, context)
    encoder = scorer.image
    assert isinstance(encoder, QualiClipEncoder)
    return scorer, encoder


def score(context: BuildContext, checkpoint: Path, pixels: Pixels, **options: Any) -> Score:
    scorer, encoder = build(context, checkpoint, **options)
    encoder.load()
    (answer,) = scorer.score(Embedded(images=encoder.encode([encoder.preprocess(pixels)])))
    assert isinstance(answer, Score)
    return answer


@pytest.fixture
def stored(tiny_quality: Path, tmp_path: Path) -> Path:
    """The authors' layout without a text tower, with features of two pairs."""
    folder = tmp_path / "stored"
    shutil.copytree(tiny_quality, folder)
    image = {k: v for k, v in load_file(folder / "weights.safetensors").items() if k.startswith("visual.")}
    features = torch.nn.functional.normalize(torch.randn(4, 24, generator=torch.Generator().manual_seed(3)), dim=1)
    renamed = {f"clip_model.{name}": tensor for name, tensor in image.items()}
    save_file(renamed | {"prompts_features": features}, folder / "weights.safetensors")
    return folder


def test_the_score_is_the_mean_of_the_pairs_probabilities() -> None:
    encodings = [QualityEncoding(np.array([0.0, 0.02], dtype=np.float32))]
    (answer,) = succeeded(QualiClip(None, scale=100, relative_cost=1).score(Embedded(images=encodings)))  # type: ignore[arg-type]
    assert answer.details["pairs"] == pytest.approx([0.5, 1 / (1 + np.exp(-2))], abs=1e-6)
    assert answer.value == pytest.approx(np.mean(answer.details["pairs"]), abs=1e-6)


def test_the_widest_margins_stay_within_the_range() -> None:
    encodings = [QualityEncoding(np.array([margin], dtype=np.float32)) for margin in (2.0, -2.0)]
    answers = succeeded(QualiClip(None, scale=1000, relative_cost=1).score(Embedded(images=encodings)))  # type: ignore[arg-type]
    assert [answer.value for answer in answers] == [1.0, 0.0]


def test_stored_features_take_the_place_of_prompts(context: BuildContext, stored: Path, image: Pixels) -> None:
    assert len(score(context, stored, image).details["pairs"]) == 2


def test_prompts_that_are_not_stored_need_the_text_tower(context: BuildContext, stored: Path, image: Pixels) -> None:
    with pytest.raises(StateDictError, match="no text tower"):
        score(context, stored, image, prompts="clipiqa")


def test_prompts_can_be_chosen(context: BuildContext, tiny_quality: Path, image: Pixels) -> None:
    all_pairs = score(context, tiny_quality, image).details["pairs"]
    assert len(all_pairs) == len(QUALICLIP_PAIRS)
    one_pair = score(context, tiny_quality, image, prompts="clipiqa")
    own_pairs = score(context, tiny_quality, image, prompts=[["Sharp image.", "Blurry image."]])
    assert one_pair.details["pairs"] == pytest.approx(all_pairs[:1], abs=1e-6)
    assert own_pairs.details["pairs"] == pytest.approx(all_pairs[1:2], abs=1e-6)


def test_scorers_with_other_prompts_or_bounds_do_not_share_an_encoder(
    context: BuildContext, tiny_quality: Path
) -> None:
    choices: list[Any] = [{"prompts": each} for each in ("qualiclip", "clipiqa", [["a", "b"]], [["b", "a"]])]
    choices += [{"max_pixels": 10_000}, {"max_pixels": 20_000}]
    assert len({build(context, tiny_quality, **choice)[1].key for choice in choices}) == len(choices)


@pytest.mark.parametrize(
    "options",
    [{"scale": 0}, {"prompts": []}, {"prompts": [["one"]]}, {"prompts": "other"}, {"max_pixels": 10}, {"what": 1}],
    ids=str,
)
def test_a_section_that_does_not_fit_is_refused(
    context: BuildContext, tiny_quality: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"scorers\.qualiclip"):
        build(context, tiny_quality, **options)


def test_images_keep_their_size(context: BuildContext, tiny_quality: Path, image: Pixels) -> None:
    _, encoder = build(context, tiny_quality)
    sized = encoder.preprocess(image)
    assert sized.pixels.shape == image.shape
    assert encoder.bucket(sized) != encoder.bucket(encoder.preprocess(image.transpose(1, 0, 2)))
    assert encoder.cost(encoder.preprocess(np.zeros((224, 448, 3), dtype=np.uint8))) == 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((300, 600), (141, 282), id="too many pixels"),
        pytest.param((32, 5000), None, id="too thin once it is scaled down"),
        pytest.param((50, 500), (44, 447), id="in proportion"),
    ],
)
def test_large_images_are_scaled_down(
    context: BuildContext, tiny_quality: Path, size: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    _, encoder = build(context, tiny_quality, max_pixels=40_000 if size[0] == 300 else 20_000)
    image = np.zeros((*size, 3), dtype=np.uint8)
    if expected is None:
        with pytest.raises(ImageTooSmallError, match="at least 31"):
            encoder.preprocess(image)
    else:
        assert encoder.preprocess(image).pixels.shape[:2] == expected


def test_the_answer_says_at_what_size_a_large_image_was_scored(
    context: BuildContext, tiny_quality: Path, image: Pixels
) -> None:
    large = np.tile(image, (2, 2, 1))
    assert "resized" not in score(context, tiny_quality, large).details
    limited = score(BuildContext(context.backend, EncoderRegistry()), tiny_quality, large, max_pixels=10_000)
    assert limited.details["resized"] == {"height": 83, "width": 120}


def test_an_image_below_31_pixels_is_refused(context: BuildContext, tiny_quality: Path) -> None:
    _, encoder = build(context, tiny_quality)
    assert encoder.preprocess(np.zeros((31, 31, 3), dtype=np.uint8)).pixels.shape == (31, 31, 3)
    with pytest.raises(ImageTooSmallError, match="30x500"):
        encoder.preprocess(np.zeros((30, 500, 3), dtype=np.uint8))


def test_what_is_no_image_is_refused(context: BuildContext, tiny_quality: Path) -> None:
    with pytest.raises(InvalidFieldError):
        build(context, tiny_quality)[1].preprocess("a text")
    with pytest.raises(MissingImageError):
        build(context, tiny_quality)[0].score(Embedded())


def test_batches_beyond_the_graphs_are_split(context: BuildContext, tiny_quality: Path, image: Pixels) -> None:
    _, encoder = build(context, tiny_quality)
    with pytest.raises(SetupError):
        encoder.info()
    encoder.load()
    batch = [encoder.preprocess(np.roll(image, shift, axis=1)) for shift in range(6)]
    together = encoder.encode(pickle.loads(pickle.dumps(batch)))  # noqa: S301 - our own bytes
    for one, encoding in zip(batch, together, strict=True):
        (alone,) = encoder.encode([one])
        assert isinstance(encoding, QualityEncoding)
        assert isinstance(alone, QualityEncoding)
        np.testing.assert_allclose(encoding.margins, alone.margins, atol=2e-6)
    assert encoder.info().backend == "torch"
