"""The same input has the same encoding, whatever stands beside it."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import EngineError, InvalidFieldError, SetupError
from plumbline_models.core.protocols import Encoder, PairInput
from plumbline_models.images.resample import pillow_arithmetic
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSpec
from tests.results import succeeded

TOGETHER = 1e-6  # float32 sums in another order; measured 3e-7
WORDS = [
    "a",
    "red",
    "circle",
    "above",
    "two",
    "blue",
    "squares",
    "and",
    "one",
    "small",
    "yellow",
    "star",
    "on",
    "a",
    "plain",
    "grey",
    "table",
    "near",
    "the",
    "window",
]


@pytest.fixture(scope="module", params=["torch_fp32", "openvino_fp32"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def images(tiny_spec: ClipSpec, backend: Backend) -> ClipImageEncoder:
    encoder = ClipImageEncoder(tiny_spec, backend)
    encoder.load()
    return encoder


@pytest.fixture(scope="module")
def texts(tiny_spec: ClipSpec, backend: Backend) -> Encoder:
    encoder = ClipTextEncoder(tiny_spec, backend)
    encoder.load()
    return encoder


def draw_pixels(count: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    for _ in range(count):
        height, width = rng.integers(20, 90, 2)
        yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw_texts(count: int) -> list[str]:
    rng = np.random.default_rng(4)
    return ["", *(" ".join(rng.choice(WORDS, rng.integers(0, 100))) for _ in range(count - 1))]


def encode(encoder: Encoder, batch: list[object]) -> NDArray[np.float32]:
    return np.stack(succeeded(encoder.encode(batch)))


def test_sixty_four_images_at_once_are_sixty_four_images(images: Encoder) -> None:
    preprocessed = [images.preprocess(pixels) for pixels in draw_pixels(64)]
    singles = np.concatenate([encode(images, [one]) for one in preprocessed])
    assert np.abs(encode(images, preprocessed) - singles).max() <= TOGETHER
    assert np.abs(np.linalg.norm(singles, axis=1) - 1).max() <= TOGETHER


def test_sixty_four_texts_of_any_length_at_once_are_sixty_four_texts(texts: Encoder) -> None:
    preprocessed = [texts.preprocess(text) for text in draw_texts(64)]
    assert {len(ids) for ids in preprocessed} >= {2, 77}
    singles = np.concatenate([encode(texts, [one]) for one in preprocessed])
    assert np.abs(encode(texts, preprocessed) - singles).max() <= TOGETHER
    assert np.abs(np.linalg.norm(singles, axis=1) - 1).max() <= TOGETHER


def test_order_and_duplicates_change_nothing(images: Encoder) -> None:
    preprocessed = [images.preprocess(pixels) for pixels in draw_pixels(6)]
    order = [5, 0, 3, 3, 1, 5, 2, 4]
    shuffled = encode(images, [preprocessed[index] for index in order])
    assert np.abs(shuffled - encode(images, preprocessed)[order]).max() <= TOGETHER


def test_more_than_an_engine_takes_at_once_is_cut_into_batches(images: Encoder) -> None:
    preprocessed = [images.preprocess(pixels) for pixels in draw_pixels(5)]
    found = encode(images, preprocessed * 26)
    assert found.shape == (130, 24)
    assert np.abs(found - np.tile(encode(images, preprocessed), (26, 1))).max() <= TOGETHER


def test_no_inputs_give_no_encodings(images: Encoder, texts: Encoder) -> None:
    assert images.encode([]) == []
    assert texts.encode([]) == []


def test_texts_of_about_the_same_length_share_a_bucket(texts: Encoder) -> None:
    preprocessed = {count: texts.preprocess(" ".join(["red"] * count)) for count in (0, 6, 7, 73, 200)}
    buckets = {count: texts.bucket(ids) for count, ids in preprocessed.items()}
    assert buckets == {0: 8, 6: 8, 7: 16, 73: 77, 200: 77}
    assert texts.cost(preprocessed[0]) == 1.0
    assert texts.cost(preprocessed[200]) == pytest.approx(77 / 16)


def test_loading_twice_compiles_once(tiny_spec: ClipSpec, backend: Backend) -> None:
    encoder = ClipTextEncoder(tiny_spec, backend)
    encoder.load()
    before = encoder.info()
    encoder.load()
    assert encoder.info() is before


def test_an_encoder_says_what_it_is(images: Encoder, tiny_spec: ClipSpec, backend: Backend) -> None:
    info = images.info()
    assert (info.key, info.kind, info.dim) == (f"{tiny_spec.name}/image", "image", 24)
    assert (info.backend, info.precision, info.device) == (backend.name, "fp32", "cpu")
    assert info.notes == {"pixels": "32x32, squash, bicubic", "resize": pillow_arithmetic()}
    assert len(info.sha256) == 64


def test_an_encoder_that_is_not_loaded_says_so(tiny_spec: ClipSpec, backend: Backend) -> None:
    encoder = ClipImageEncoder(tiny_spec, backend)
    with pytest.raises(SetupError, match="not loaded yet"):
        encoder.info()
    with pytest.raises(EngineError, match="not loaded yet"):
        encoder.encode([np.zeros((32, 32, 3), np.uint8)])


def test_the_wrong_kind_of_input_is_refused(images: Encoder, texts: Encoder) -> None:
    with pytest.raises(InvalidFieldError, match="takes images"):
        images.preprocess("a red circle")
    with pytest.raises(InvalidFieldError, match="takes texts"):
        texts.preprocess(PairInput(caption="a red circle", image_encoding=None))


def test_a_cpu_batch_of_a_large_tower_is_small(images: ClipImageEncoder, backend: Backend) -> None:
    class Large(ClipImageEncoder):
        gflop = 335.0  # ViT-H/14

    assert images.max_batch_cost == 64
    large = Large(images.checkpoint, backend)
    assert large.max_batch_cost == 64  # nothing is known before it is loaded
    large.load()
    assert large.max_batch_cost == 4
